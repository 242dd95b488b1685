#include "ticket/keccak256.h"

#include <bit>
#include <cstddef>
#include <cstring>

namespace lpnode::ticket {
namespace {

constexpr size_t kLanes = 25;
constexpr size_t kRateBytes = 136;
constexpr int kRounds = 24;

using State = std::array<uint64_t, kLanes>;

// The round constants are the output of the LFSR x^8 + x^6 + x^5 + x^4 + 1 (FIPS 202, 3.2.5): bit
// 2^j - 1 of constant i is its output number j + 7 i.
constexpr std::array<uint64_t, kRounds> round_constants() {
  std::array<uint64_t, kRounds> constants{};
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

struct Step {
  int lane;
  int rotation;
};

// rho and pi walk the lanes in one cycle: (x, y) -> (y, 2x + 3y), rotated by triangular numbers.
constexpr std::array<Step, 24> rho_pi_walk() {
  std::array<Step, 24> walk{};
  int x = 1, y = 0;
  for (int t = 0; t < 24; ++t) {
    const int next_y = (2 * x + 3 * y) % 5;
    x = y;
    y = next_y;
    walk[t] = {x + 5 * y, ((t + 1) * (t + 2) / 2) % 64};
  }
  return walk;
}

constexpr auto kConstants = round_constants();
constexpr auto kWalk = rho_pi_walk();
static_assert(kConstants[0] == 1 && kConstants[23] == 0x8000000080008008);

void permute(State& a) noexcept {
  for (const uint64_t constant : kConstants) {
    uint64_t column[5];
    for (int x = 0; x < 5; ++x) column[x] = a[x] ^ a[x + 5] ^ a[x + 10] ^ a[x + 15] ^ a[x + 20];
    for (int x = 0; x < 5; ++x) {
      const uint64_t mix = column[(x + 4) % 5] ^ std::rotl(column[(x + 1) % 5], 1);
      for (int y = 0; y < 25; y += 5) a[x + y] ^= mix;
    }
    uint64_t carried = a[1];
#pragma GCC unroll 24
    for (const Step step : kWalk) {
      const uint64_t displaced = a[step.lane];
      a[step.lane] = std::rotl(carried, step.rotation);
      carried = displaced;
    }
    for (int y = 0; y < 25; y += 5) {
      uint64_t row[5];
      for (int x = 0; x < 5; ++x) row[x] = a[x + y];
      for (int x = 0; x < 5; ++x) a[x + y] = row[x] ^ (~row[(x + 1) % 5] & row[(x + 2) % 5]);
    }
    a[0] ^= constant;
  }
}

void absorb(State& state, const uint8_t* block) noexcept {
  static_assert(std::endian::native == std::endian::little);
  for (size_t lane = 0; lane < kRateBytes / 8; ++lane) {
    uint64_t word;
    std::memcpy(&word, block + 8 * lane, 8);
    state[lane] ^= word;
  }
  permute(state);
}

}  // namespace

Hash32 keccak256(std::span<const uint8_t> message) noexcept {
  State state{};
  while (message.size() >= kRateBytes) {
    absorb(state, message.data());
    message = message.subspan(kRateBytes);
  }
  std::array<uint8_t, kRateBytes> last{};
  if (!message.empty()) std::memcpy(last.data(), message.data(), message.size());
  last[message.size()] ^= 0x01;
  last[kRateBytes - 1] ^= 0x80;
  absorb(state, last.data());
  Hash32 digest;
  std::memcpy(digest.data(), state.data(), digest.size());
  return digest;
}

}  // namespace lpnode::ticket
