#include "kernels/launch.cuh"
#include "kernels/yuv_to_rgb.h"

namespace lpnode::kernels {
namespace {

// One thread makes kPixels neighbours of a row in all three planes: 12 byte loads a pixel, which
// neighbours share through the cache, and one store in each plane. With two a warp writes 64
// neighbours of a row.
template <typename T, int kPixels>
__global__ void __launch_bounds__(kBlockColumns* kBlockRows)
    yuv_to_rgb_kernel(YuvPlanes planes, YuvToRgbParams params, T* __restrict__ out) {
  const int x = kPixels * (blockIdx.x * kBlockColumns + threadIdx.x);
  const int y = blockIdx.y * kBlockRows + threadIdx.y;
  if (x >= params.width || y >= params.height) return;
  const ptrdiff_t plane = ptrdiff_t{params.width} * params.height;
  T* at = out + ptrdiff_t{y} * params.width + x;
  const RgbPixel first = yuv_to_rgb_pixel(planes, params, x, y);
  if constexpr (kPixels == 2) {
    const RgbPixel second = yuv_to_rgb_pixel(planes, params, x + 1, y);
    store_pair(first.red, second.red, at);
    store_pair(first.green, second.green, at + plane);
    store_pair(first.blue, second.blue, at + 2 * plane);
  } else {
    store_element(first.red, at);
    store_element(first.green, at + plane);
    store_element(first.blue, at + 2 * plane);
  }
}

template <typename T, int kPixels>
void launch(const YuvPlanes& planes, const YuvToRgbParams& params, T* out, CUstream_st* stream) {
  const dim3 block(kBlockColumns, kBlockRows);
  const dim3 grid(ceil_div(params.width, kPixels * kBlockColumns),
                  ceil_div(params.height, kBlockRows));
  yuv_to_rgb_kernel<T, kPixels><<<grid, block, 0, stream>>>(planes, params, out);
}

}  // namespace

void yuv_to_rgb(const YuvPlanes& planes, const YuvToRgbParams& params, void* out, Element element,
                CUstream_st* stream) {
  with_element(element, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    // With an even width every row and plane starts at a pair, if the first one does.
    if (params.width % 2 == 0 && is_aligned(out, 2 * sizeof(T)))
      launch<T, 2>(planes, params, static_cast<T*>(out), stream);
    else
      launch<T, 1>(planes, params, static_cast<T*>(out), stream);
  });
  check_launch("yuv_to_rgb");
}

}  // namespace lpnode::kernels
