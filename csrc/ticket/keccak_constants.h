// The constants of Keccak-f[1600], derived rather than typed in.
// Source: The Keccak reference, version 3.0, and FIPS 202 section 3.2.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace lpnode::ticket {

inline constexpr size_t kKeccakWords = 25;
inline constexpr size_t kKeccakRateBytes = 136;
inline constexpr int kKeccakRounds = 24;

// The round constants are the output of the LFSR x^8 + x^6 + x^5 + x^4 + 1 (FIPS 202, 3.2.5): bit
// 2^j - 1 of constant i is its output number j + 7 i.
constexpr std::array<uint64_t, kKeccakRounds> keccak_round_constants() {
  std::array<uint64_t, kKeccakRounds> constants{};
  unsigned lfsr = 1;
  for (auto& constant : constants) {
    for (int j = 0; j < 7; ++j) {
      if (lfsr & 1) constant |= uint64_t{1} << ((1 << j) - 1);
      lfsr <<= 1;
      if (lfsr & 0x100) lfsr ^= 0x171;
    }
  }
  return constants;
}

struct KeccakStep {
  int word;
  int rotation;
};

// rho and pi walk the words in one cycle: (x, y) -> (y, 2x + 3y), rotated by triangular numbers.
constexpr std::array<KeccakStep, 24> keccak_rho_pi_walk() {
  std::array<KeccakStep, 24> walk{};
  int x = 1, y = 0;
  for (int t = 0; t < 24; ++t) {
    const int next_y = (2 * x + 3 * y) % 5;
    x = y;
    y = next_y;
    walk[t] = {x + 5 * y, ((t + 1) * (t + 2) / 2) % 64};
  }
  return walk;
}

inline constexpr auto kKeccakConstants = keccak_round_constants();
inline constexpr auto kKeccakWalk = keccak_rho_pi_walk();
static_assert(kKeccakConstants[0] == 1 && kKeccakConstants[23] == 0x8000000080008008);

}  // namespace lpnode::ticket
