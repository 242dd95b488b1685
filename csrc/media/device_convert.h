// What is done to pictures that lie in device memory, and the copies that bring them there.
// Nothing here allocates or waits for the device, so that all of it may be captured in a CUDA graph.
// Built without CUDA, the same functions throw NotBuilt("built without CUDA; configure with
// LPNODE_CUDA=ON").
#pragma once

#include <cstddef>
#include <span>

#include "kernels/element.h"
#include "kernels/frame_similarity_sums.h"
#include "kernels/rgb_to_yuv_block.h"
#include "kernels/yuv_to_rgb_pixel.h"

namespace lpnode::media {

// A plane on its way; either side may be in host or in device memory.
struct PlaneCopy {
  void* to;
  ptrdiff_t to_pitch_bytes;
  const void* from;
  ptrdiff_t from_pitch_bytes;
  int row_bytes, rows;
};

[[nodiscard]] bool has_device_convert() noexcept;

// Throws NotBuilt in a build without CUDA.
void require_device_convert();

// As kernels/yuv_to_rgb.h, on `stream` of `device`.
void yuv_to_rgb_on_device(const kernels::YuvPlanes& planes, const kernels::YuvToRgbParams& params,
                          void* out, kernels::Element element, int device, CUstream_st* stream);

// As kernels/rgb_to_yuv.h, on `stream` of `device`.
void rgb_to_yuv_on_device(const void* rgb, kernels::Element element,
                          const kernels::RgbToYuvParams& params,
                          const kernels::MutableYuvPlanes& out, int device, CUstream_st* stream);

// As kernels/frame_similarity.h, on `stream` of `device`.
void frame_similarity_on_device(const void* first, const void* second, kernels::Element element,
                                ptrdiff_t count, kernels::SimilaritySums* scratch,
                                kernels::SimilaritySums* sums, int device, CUstream_st* stream);

// Enqueues the copies on `stream` of `device`; planes of one pitch that follow each other on both
// sides go as one. A copy from or to page-locked memory runs after the call has returned, and that
// memory must stay as it is until the stream has come there; pageable memory is done with at return.
// Throws DeviceError.
void copy_planes_on_device(std::span<const PlaneCopy> copies, int device, CUstream_st* stream);

}  // namespace lpnode::media
