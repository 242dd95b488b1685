#include "error.h"
#include "media/device_convert.h"

namespace lpnode::media {

bool has_device_convert() noexcept { return false; }

void require_device_convert() {
  throw NotBuilt("built without CUDA; configure with LPNODE_CUDA=ON");
}

void yuv_to_rgb_on_device(const kernels::YuvPlanes&, const kernels::YuvToRgbParams&, void*,
                          kernels::Element, int, CUstream_st*) {
  require_device_convert();
}

void rgb_to_yuv_on_device(const void*, kernels::Element, const kernels::RgbToYuvParams&,
                          const kernels::MutableYuvPlanes&, int, CUstream_st*) {
  require_device_convert();
}

void frame_similarity_on_device(const void*, const void*, kernels::Element, ptrdiff_t,
                                kernels::SimilaritySums*, kernels::SimilaritySums*, int,
                                CUstream_st*) {
  require_device_convert();
}

void copy_planes_on_device(std::span<const PlaneCopy>, int, CUstream_st*) {
  require_device_convert();
}

}  // namespace lpnode::media
