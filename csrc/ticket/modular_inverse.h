// Inverses modulo the two primes of secp256k1.
#pragma once

#include "ticket/uint256.h"

namespace lpnode::ticket {

// An odd modulus as the algorithm wants it: five signed limbs of 62 bits.
struct InverseModulus {
  std::array<int64_t, 5> limb;
  uint64_t inverse62;  // of the modulus, modulo 2^62
};

[[nodiscard]] constexpr InverseModulus inverse_modulus(const Uint256& modulus) noexcept {
  constexpr uint64_t mask = ~uint64_t{0} >> 2;
  const auto& m = modulus.limb;
  InverseModulus out{{static_cast<int64_t>(m[0] & mask),
                      static_cast<int64_t>((m[0] >> 62 | m[1] << 2) & mask),
                      static_cast<int64_t>((m[1] >> 60 | m[2] << 4) & mask),
                      static_cast<int64_t>((m[2] >> 58 | m[3] << 6) & mask),
                      static_cast<int64_t>(m[3] >> 56)},
                     m[0]};
  // Newton: each round doubles the correct low bits; an odd number is its own inverse modulo 8.
  for (int correct_bits = 3; correct_bits < 62; correct_bits *= 2)
    out.inverse62 *= 2 - m[0] * out.inverse62;
  out.inverse62 &= mask;
  return out;
}

// The inverse of `value` (below the modulus, prime); 0 for 0. Not constant in time: about 1 us.
// Source: Bernstein and Yang, "Fast constant-time gcd computation and modular inversion" (2019):
// division steps, 62 at a time on the low words.
[[nodiscard]] Uint256 modular_inverse(const Uint256& value, const InverseModulus& modulus) noexcept;

}  // namespace lpnode::ticket
