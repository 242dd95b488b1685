#pragma once

#include <cstddef>

#include "kernels/element.h"
#include "kernels/frame_similarity_sums.h"

namespace lpnode::kernels {

// Reads two frames of `count` elements in device memory once, and writes one SimilaritySums to
// `sums`, which stays on the device: whoever wants to decide on it copies 12 bytes. `scratch` has
// kSimilarityBlocks elements. The order of the additions is fixed: the same frames give the same
// bits. The caller orders the stream. Throws DeviceError if a launch fails.
void frame_similarity(const void* first, const void* second, Element element, ptrdiff_t count,
                      SimilaritySums* scratch, SimilaritySums* sums, CUstream_st* stream);

}  // namespace lpnode::kernels
