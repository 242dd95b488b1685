// Conversions of pictures that already lie in device memory. Built without CUDA, the same functions
// throw NotBuilt("built without CUDA; configure with LPNODE_CUDA=ON").
#pragma once

#include "kernels/element.h"
#include "kernels/rgb_to_yuv_block.h"
#include "kernels/yuv_to_rgb_pixel.h"

namespace lpnode::media {

[[nodiscard]] bool has_device_convert() noexcept;

// Throws NotBuilt in a build without CUDA.
void require_device_convert();

// As kernels/yuv_to_rgb.h, on `stream`, which belongs to the current device.
void yuv_to_rgb_on_device(const kernels::YuvPlanes& planes, const kernels::YuvToRgbParams& params,
                          void* out, kernels::Element element, CUstream_st* stream);

// As kernels/rgb_to_yuv.h, on `stream`, which belongs to the current device.
void rgb_to_yuv_on_device(const void* rgb, kernels::Element element,
                          const kernels::RgbToYuvParams& params,
                          const kernels::MutableYuvPlanes& out, CUstream_st* stream);

}  // namespace lpnode::media
