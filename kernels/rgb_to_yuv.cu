#include "kernels/launch.cuh"
#include "kernels/rgb_to_yuv.h"

namespace lpnode::kernels {
namespace {

template <typename T>
struct PlanarLoad {
  const T* rgb;
  ptrdiff_t width, plane;
  __device__ float operator()(int colour, int x, int y) const {
    return load_element(rgb + colour * plane + y * width + x);
  }
};

// One thread makes a 2x2 block. In pairs: 6 loads of two elements, two stores of two luma samples
// and one sample in each chroma plane (or one store of both); a warp reads 64 neighbours of two rows
// in each colour. Otherwise an element and a sample at a time.
template <typename T, bool kIsPaired>
__global__ void __launch_bounds__(kBlockColumns* kBlockRows)
    rgb_to_yuv_kernel(const T* __restrict__ rgb, RgbToYuvParams params, MutableYuvPlanes out) {
  const int column = blockIdx.x * kBlockColumns + threadIdx.x;
  const int row = blockIdx.y * kBlockRows + threadIdx.y;
  if (2 * column >= out.width || 2 * row >= out.height) return;
  if constexpr (kIsPaired) {
    const auto load = [rgb](ptrdiff_t offset) {
      const float2 pair = load_pair(rgb + offset);
      return Pair{pair.x, pair.y};
    };
    const RgbBlock block = load_rgb_pairs(out.width, out.height, column, row, load);
    store_yuv_pairs(out, column, row, rgb_to_yuv_block(params, block));
  } else {
    const PlanarLoad<T> load{rgb, out.width, ptrdiff_t{out.width} * out.height};
    const RgbBlock block = load_rgb_block(out.width, out.height, column, row, load);
    store_yuv_block(out, column, row, rgb_to_yuv_block(params, block));
  }
}

}  // namespace

void rgb_to_yuv(const void* rgb, Element element, const RgbToYuvParams& params,
                const MutableYuvPlanes& out, CUstream_st* stream) {
  const dim3 block(kBlockColumns, kBlockRows);
  const dim3 grid(ceil_div((out.width + 1) / 2, kBlockColumns),
                  ceil_div((out.height + 1) / 2, kBlockRows));
  with_element(element, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    const T* elements = static_cast<const T*>(rgb);
    if (stores_pairs(out) && is_aligned(rgb, 2 * sizeof(T)))
      rgb_to_yuv_kernel<T, true><<<grid, block, 0, stream>>>(elements, params, out);
    else
      rgb_to_yuv_kernel<T, false><<<grid, block, 0, stream>>>(elements, params, out);
  });
  check_launch("rgb_to_yuv");
}

}  // namespace lpnode::kernels
