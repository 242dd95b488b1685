#pragma once

#include "kernels/element.h"
#include "kernels/yuv_to_rgb_pixel.h"

namespace lpnode::kernels {

// Crops, resizes, converts and normalises an I420 or NV12 picture in device memory into planar RGB:
// out is 3 x params.height x params.width elements, contiguous, on the same device.
// The caller orders the stream: the planes are complete on it, out is ready when it is.
// Throws DeviceError if the launch fails.
void yuv_to_rgb(const YuvPlanes& planes, const YuvToRgbParams& params, void* out, Element element,
                CUstream_st* stream);

}  // namespace lpnode::kernels
