// The field of secp256k1: integers modulo p = 2^256 - 2^32 - 977, one at a time.
// Values are kept below 2^256, so that a residue may have two forms until `reduced`. See
// Note [Always inline].
#pragma once

#include "ticket/modular_inverse.h"
#include "ticket/uint256.h"

namespace lpnode::ticket {

inline constexpr uint64_t kFold = 0x1000003D1;  // 2^256 modulo p
inline constexpr Uint256 kPrime{{0xFFFFFFFEFFFFFC2F, ~uint64_t{0}, ~uint64_t{0}, ~uint64_t{0}}};
inline constexpr InverseModulus kPrimeModulus = inverse_modulus(kPrime);

// Without branches, which random operands would mispredict.
[[nodiscard, gnu::always_inline]] inline Uint256 field_add(const Uint256& a,
                                                           const Uint256& b) noexcept {
  Uint256 sum;
  const uint64_t over = add_with_carry(a, b, sum);
  const uint64_t again = add_with_carry(sum, {{kFold & -over}}, sum);
  sum.limb[0] += kFold & -again;  // after a second carry the rest is below 2^33
  return sum;
}

[[nodiscard, gnu::always_inline]] inline Uint256 field_subtract(const Uint256& a,
                                                                const Uint256& b) noexcept {
  Uint256 difference;
  const uint64_t under = subtract_with_borrow(a, b, difference);
  const uint64_t again = subtract_with_borrow(difference, {{kFold & -under}}, difference);
  difference.limb[0] -= kFold & -again;  // after a second borrow the rest is above 2^256 - 2^33
  return difference;
}

[[nodiscard, gnu::always_inline]] inline Uint256 field_multiply(const Uint256& a,
                                                                const Uint256& b) noexcept {
  using Wide = unsigned __int128;
  uint64_t product[8] = {};
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    uint64_t carry = 0;
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const Wide sum = static_cast<Wide>(a.limb[i]) * b.limb[j] + product[i + j] + carry;
      product[i + j] = static_cast<uint64_t>(sum);
      carry = static_cast<uint64_t>(sum >> 64);
    }
    product[i + 4] = carry;
  }
  Uint256 out;
  Wide sum = 0;
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    sum += static_cast<Wide>(product[i + 4]) * kFold + product[i];
    out.limb[i] = static_cast<uint64_t>(sum);
    sum >>= 64;
  }
  sum *= kFold;
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    sum += out.limb[i];
    out.limb[i] = static_cast<uint64_t>(sum);
    sum >>= 64;
  }
  if (sum != 0) add_with_carry(out, {{kFold}}, out);  // the rest is small: no third carry
  return out;
}

[[nodiscard, gnu::always_inline]] inline Uint256 field_square(const Uint256& a) noexcept {
  return field_multiply(a, a);
}

// The form below p.
[[nodiscard, gnu::always_inline]] inline Uint256 reduced(const Uint256& a) noexcept {
  Uint256 out;
  return subtract_with_borrow(a, kPrime, out) ? a : out;
}

[[nodiscard, gnu::always_inline]] inline Uint256 field_inverse(const Uint256& a) noexcept {
  return modular_inverse(reduced(a), kPrimeModulus);
}

}  // namespace lpnode::ticket
