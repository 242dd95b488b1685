// What the cosine between two frames is made of, summed in float32; compiled for the device and, in
// tests, for the host.
#pragma once

#include <cstddef>

#include "kernels/host_device.h"

namespace lpnode::kernels {

// Parts that the device sums side by side, and the scratch that it needs for them.
inline constexpr int kSimilarityBlocks = 128;

// Over all elements: first * second, first * first, second * second.
struct SimilaritySums {
  float product, first_sq, second_sq;
};

LPNODE_HOST_DEVICE inline SimilaritySums plus(const SimilaritySums& a, const SimilaritySums& b) {
  return {a.product + b.product, a.first_sq + b.first_sq, a.second_sq + b.second_sq};
}

// Every `stride`th element from `begin` on; `load_first(i)` and `load_second(i)` give them. A frame
// is cut into thousands of such parts, so that no float32 sum becomes long.
template <typename LoadFirst, typename LoadSecond>
LPNODE_HOST_DEVICE inline SimilaritySums similarity_part(ptrdiff_t begin, ptrdiff_t stride,
                                                         ptrdiff_t count,
                                                         const LoadFirst& load_first,
                                                         const LoadSecond& load_second) {
  SimilaritySums sums{0.0f, 0.0f, 0.0f};
  for (ptrdiff_t i = begin; i < count; i += stride) {
    const float first = load_first(i), second = load_second(i);
    sums = plus(sums, {first * second, first * first, second * second});
  }
  return sums;
}

// Sums `num_parts`, a power of two, pairwise in place, ending in the first. On the device the threads
// take a turn each: `for_each_thread(half, act)` calls act(i) for all i below half, and returns when
// all are done.
template <typename ForEachThread>
LPNODE_HOST_DEVICE inline void add_pairwise(SimilaritySums* parts, int num_parts,
                                            const ForEachThread& for_each_thread) {
  for (int half = num_parts / 2; half > 0; half /= 2)
    for_each_thread(half, [=](int i) { parts[i] = plus(parts[i], parts[i + half]); });
}

}  // namespace lpnode::kernels
