#include "kernels/launch.cuh"
#include "kernels/yuv_to_rgb.h"

namespace lpnode::kernels {
namespace {

// One thread makes one pixel in all three planes: 12 byte loads, which neighbours share through the
// cache, and one store in each plane, 32 neighbours of a row by a warp.
template <typename T>
__global__ void __launch_bounds__(kBlockColumns* kBlockRows)
    yuv_to_rgb_kernel(YuvPlanes planes, YuvToRgbParams params, T* __restrict__ out) {
  const int x = blockIdx.x * kBlockColumns + threadIdx.x;
  const int y = blockIdx.y * kBlockRows + threadIdx.y;
  if (x >= params.width || y >= params.height) return;
  const RgbPixel pixel = yuv_to_rgb_pixel(planes, params, x, y);
  const ptrdiff_t plane = ptrdiff_t{params.width} * params.height;
  T* at = out + ptrdiff_t{y} * params.width + x;
  store_element(pixel.red, at);
  store_element(pixel.green, at + plane);
  store_element(pixel.blue, at + 2 * plane);
}

}  // namespace

void yuv_to_rgb(const YuvPlanes& planes, const YuvToRgbParams& params, void* out, Element element,
                CUstream_st* stream) {
  const dim3 block(kBlockColumns, kBlockRows);
  const dim3 grid(ceil_div(params.width, kBlockColumns), ceil_div(params.height, kBlockRows));
  with_element(element, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    yuv_to_rgb_kernel<T><<<grid, block, 0, stream>>>(planes, params, static_cast<T*>(out));
  });
  check_launch("yuv_to_rgb");
}

}  // namespace lpnode::kernels
