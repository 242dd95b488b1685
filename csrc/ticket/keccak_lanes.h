// Eight Keccak states side by side.
#pragma once

#include "ticket/keccak_constants.h"
#include "ticket/ticket_paths.h"

namespace lpnode::ticket {

inline constexpr size_t kLanes = 8;

// Word w of lane l is word[w][l].
struct alignas(64) KeccakLanes {
  uint64_t word[kKeccakWords][kLanes] = {};
};

// Keccak-f[1600] on the first `count` lanes at least; the others may hold anything afterwards.
void permute_lanes_portable(KeccakLanes& lanes, size_t count) noexcept;
void permute_lanes_avx2(KeccakLanes& lanes, size_t count) noexcept;
void permute_lanes_ifma(KeccakLanes& lanes, size_t count) noexcept;

using PermuteLanes = void (*)(KeccakLanes&, size_t count) noexcept;
[[nodiscard]] PermuteLanes permute_lanes(SimdPath path) noexcept;

}  // namespace lpnode::ticket
