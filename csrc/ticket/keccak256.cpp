#include "ticket/keccak256.h"

#include <bit>
#include <cstddef>
#include <cstring>

#include "ticket/keccak_permute.h"

namespace lpnode::ticket {
namespace {

using State = uint64_t[kKeccakWords];

void absorb(State& state, const uint8_t* block) noexcept {
  static_assert(std::endian::native == std::endian::little);
  for (size_t lane = 0; lane < kKeccakRateBytes / 8; ++lane) {
    uint64_t word;
    std::memcpy(&word, block + 8 * lane, 8);
    state[lane] ^= word;
  }
  keccak_permute<KeccakScalar>(state);
}

}  // namespace

Hash32 keccak256(std::span<const uint8_t> message) noexcept {
  State state{};
  while (message.size() >= kKeccakRateBytes) {
    absorb(state, message.data());
    message = message.subspan(kKeccakRateBytes);
  }
  std::array<uint8_t, kKeccakRateBytes> last{};
  if (!message.empty()) std::memcpy(last.data(), message.data(), message.size());
  last[message.size()] ^= 0x01;
  last[kKeccakRateBytes - 1] ^= 0x80;
  absorb(state, last.data());
  Hash32 digest;
  std::memcpy(digest.data(), state, digest.size());
  return digest;
}

}  // namespace lpnode::ticket
