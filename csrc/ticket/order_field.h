// Integers modulo n, the order of secp256k1, multiplied as Montgomery does.
#pragma once

#include "ticket/modular_inverse.h"
#include "ticket/signature.h"

namespace lpnode::ticket {

inline constexpr InverseModulus kOrderModulus = inverse_modulus(kOrder);

namespace order_detail {

// -1 / n modulo 2^64.
constexpr uint64_t negative_inverse() noexcept {
  uint64_t inverse = kOrder.limb[0];
  for (int correct_bits = 3; correct_bits < 64; correct_bits *= 2)
    inverse *= 2 - kOrder.limb[0] * inverse;
  return -inverse;
}

constexpr Uint256 doubled_modulo_order(const Uint256& a) noexcept {
  Uint256 sum, less;
  const bool carry = add_with_carry(a, a, sum);
  const bool borrow = subtract_with_borrow(sum, kOrder, less);
  return carry || !borrow ? less : sum;
}

// 2^512 modulo n.
constexpr Uint256 montgomery_square() noexcept {
  Uint256 power{{1}};
  for (int i = 0; i < 512; ++i) power = doubled_modulo_order(power);
  return power;
}

}  // namespace order_detail

inline constexpr Uint256 kMontgomerySquare = order_detail::montgomery_square();

// a b / 2^256 modulo n, below n. Needs b < n; a may be any 256-bit value.
[[nodiscard]] inline Uint256 montgomery_multiply(const Uint256& a, const Uint256& b) noexcept {
  using Wide = unsigned __int128;
  constexpr uint64_t negative_inverse = order_detail::negative_inverse();
  uint64_t t[5] = {};
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    Wide sum = 0;
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      sum += static_cast<Wide>(a.limb[j]) * b.limb[i] + t[j];
      t[j] = static_cast<uint64_t>(sum);
      sum >>= 64;
    }
    sum += t[4];
    t[4] = static_cast<uint64_t>(sum);
    const uint64_t top = static_cast<uint64_t>(sum >> 64);
    const uint64_t multiple = t[0] * negative_inverse;
    sum = static_cast<Wide>(multiple) * kOrder.limb[0] + t[0];
    sum >>= 64;
#pragma GCC unroll 3
    for (int j = 1; j < 4; ++j) {
      sum += static_cast<Wide>(multiple) * kOrder.limb[j] + t[j];
      t[j - 1] = static_cast<uint64_t>(sum);
      sum >>= 64;
    }
    sum += t[4];
    t[3] = static_cast<uint64_t>(sum);
    t[4] = top + static_cast<uint64_t>(sum >> 64);
  }
  const Uint256 out{{t[0], t[1], t[2], t[3]}};
  Uint256 less;
  const bool borrow = subtract_with_borrow(out, kOrder, less);
  return t[4] || !borrow ? less : out;
}

}  // namespace lpnode::ticket
