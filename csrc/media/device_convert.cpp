#include "media/device_convert.h"

#include "kernels/rgb_to_yuv.h"
#include "kernels/yuv_to_rgb.h"

namespace lpnode::media {

bool has_device_convert() noexcept { return true; }

void require_device_convert() {}

void yuv_to_rgb_on_device(const kernels::YuvPlanes& planes, const kernels::YuvToRgbParams& params,
                          void* out, kernels::Element element, CUstream_st* stream) {
  kernels::yuv_to_rgb(planes, params, out, element, stream);
}

void rgb_to_yuv_on_device(const void* rgb, kernels::Element element,
                          const kernels::RgbToYuvParams& params,
                          const kernels::MutableYuvPlanes& out, CUstream_st* stream) {
  kernels::rgb_to_yuv(rgb, element, params, out, stream);
}

}  // namespace lpnode::media
