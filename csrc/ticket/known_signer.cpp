#include "ticket/known_signer.h"

#include "ticket/order_field.h"

namespace lpnode::ticket {

void list_claims(std::span<const Hash32> digests, std::span<const Signature> signatures,
                 std::span<Claim> claims) noexcept {
  // A Montgomery product divides by 2^256. The factors cancel: with `inverse` holding 2^256 over
  // the product of the s before i, each step below leaves 2^256 / s and then z / s, r / s.
  Uint256 before[kMaxClaims];
  Uint256 product{{1}};
  for (size_t i = 0; i < claims.size(); ++i) {
    before[i] = product;
    product = montgomery_multiply(product, signatures[i].s);
  }
  Uint256 inverse = montgomery_multiply(modular_inverse(product, kOrderModulus), kMontgomerySquare);
  for (size_t i = claims.size(); i-- > 0;) {
    const Signature& signature = signatures[i];
    const Uint256 s_inverse = montgomery_multiply(inverse, before[i]);
    inverse = montgomery_multiply(inverse, signature.s);
    claims[i] = {montgomery_multiply(from_big_endian(digests[i].data()), s_inverse),
                 montgomery_multiply(signature.r, s_inverse), signature.r, signature.y_is_odd};
  }
}

CheckClaims check_claims(SimdPath path) noexcept {
#ifdef LPNODE_X86
  if (path == SimdPath::kIfma) return check_claims_ifma;
  if (path == SimdPath::kAvx2) return check_claims_avx2;
#else
  static_cast<void>(path);
#endif
  return check_claims_portable;
}

}  // namespace lpnode::ticket
