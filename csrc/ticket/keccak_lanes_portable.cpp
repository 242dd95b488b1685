#include "ticket/keccak_lanes.h"
#include "ticket/keccak_permute.h"

namespace lpnode::ticket {

void permute_lanes_portable(KeccakLanes& lanes, size_t count) noexcept {
  for (size_t lane = 0; lane < count; ++lane) {
    uint64_t state[kKeccakWords];
    for (size_t w = 0; w < kKeccakWords; ++w) state[w] = lanes.word[w][lane];
    keccak_permute<KeccakScalar>(state);
    for (size_t w = 0; w < kKeccakWords; ++w) lanes.word[w][lane] = state[w];
  }
}

PermuteLanes permute_lanes(SimdPath path) noexcept {
#ifdef LPNODE_X86
  if (path == SimdPath::kIfma) return permute_lanes_ifma;
  if (path == SimdPath::kAvx2) return permute_lanes_avx2;
#else
  static_cast<void>(path);
#endif
  return permute_lanes_portable;
}

}  // namespace lpnode::ticket
