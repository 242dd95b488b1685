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

// One thread makes a 2x2 block: 12 element loads, four luma stores and one in each chroma plane. A
// warp reads 64 neighbours of two rows in each colour.
template <typename T>
__global__ void __launch_bounds__(kBlockColumns* kBlockRows)
    rgb_to_yuv_kernel(const T* __restrict__ rgb, RgbToYuvParams params, MutableYuvPlanes out) {
  const int column = blockIdx.x * kBlockColumns + threadIdx.x;
  const int row = blockIdx.y * kBlockRows + threadIdx.y;
  if (2 * column >= out.width || 2 * row >= out.height) return;
  const PlanarLoad<T> load{rgb, out.width, ptrdiff_t{out.width} * out.height};
  rgb_to_yuv_block(out, params, column, row, load);
}

}  // namespace

void rgb_to_yuv(const void* rgb, Element element, const RgbToYuvParams& params,
                const MutableYuvPlanes& out, CUstream_st* stream) {
  const dim3 block(kBlockColumns, kBlockRows);
  const dim3 grid(ceil_div((out.width + 1) / 2, kBlockColumns),
                  ceil_div((out.height + 1) / 2, kBlockRows));
  with_element(element, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    rgb_to_yuv_kernel<T><<<grid, block, 0, stream>>>(static_cast<const T*>(rgb), params, out);
  });
  check_launch("rgb_to_yuv");
}

}  // namespace lpnode::kernels
