#pragma once

#include "kernels/element.h"
#include "kernels/rgb_to_yuv_block.h"

namespace lpnode::kernels {

// Denormalises, clamps and converts planar RGB in device memory (3 x height x width elements,
// contiguous) into an I420 or NV12 picture of the same size on the same device; chroma is the mean of
// each 2x2 block.
// The caller orders the stream: rgb is complete on it, the planes are ready when it is.
// Throws DeviceError if the launch fails.
void rgb_to_yuv(const void* rgb, Element element, const RgbToYuvParams& params,
                const MutableYuvPlanes& out, CUstream_st* stream);

}  // namespace lpnode::kernels
