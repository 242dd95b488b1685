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

// A block whose rows are pairs at even columns, which one load each brings.
template <typename T>
__device__ inline void load_pairs(const T* at, ptrdiff_t width, float (&values)[4]) {
  const float2 upper = load_pair(at), lower = load_pair(at + width);
  values[0] = upper.x;
  values[1] = upper.y;
  values[2] = lower.x;
  values[3] = lower.y;
}

// One thread makes a 2x2 block. In pairs: 6 loads of two elements, two stores of two luma samples
// and one sample in each chroma plane (or one store of both); a warp reads 64 neighbours of two rows
// in each colour. Otherwise an element and a sample at a time.
template <typename T, bool kIsPaired>
__global__ void __launch_bounds__(kBlockColumns* kBlockRows)
    rgb_to_yuv_kernel(const T* __restrict__ rgb, RgbToYuvParams params, MutableYuvPlanes out) {
  const int column = blockIdx.x * kBlockColumns + threadIdx.x;
  const int row = blockIdx.y * kBlockRows + threadIdx.y;
  if (2 * column >= out.width || 2 * row >= out.height) return;
  const ptrdiff_t plane = ptrdiff_t{out.width} * out.height;
  if constexpr (kIsPaired) {
    const T* at = rgb + 2 * row * ptrdiff_t{out.width} + 2 * column;
    RgbBlock block;
    load_pairs(at, out.width, block.red);
    load_pairs(at + plane, out.width, block.green);
    load_pairs(at + 2 * plane, out.width, block.blue);
    const YuvBlock yuv = rgb_to_yuv_block(params, block);
    uint8_t* luma = out.y + 2 * row * out.y_pitch_bytes + 2 * column;
    *reinterpret_cast<uchar2*>(luma) = make_uchar2(yuv.y[0], yuv.y[1]);
    *reinterpret_cast<uchar2*>(luma + out.y_pitch_bytes) = make_uchar2(yuv.y[2], yuv.y[3]);
    if (out.chroma_step == 2) {
      *reinterpret_cast<uchar2*>(out.u + row * out.u_pitch_bytes + 2 * column) =
          make_uchar2(yuv.u, yuv.v);
    } else {
      out.u[row * out.u_pitch_bytes + column] = yuv.u;
      out.v[row * out.v_pitch_bytes + column] = yuv.v;
    }
  } else {
    const PlanarLoad<T> load{rgb, out.width, plane};
    const RgbBlock block = load_rgb_block(out.width, out.height, column, row, load);
    store_yuv_block(out, column, row, rgb_to_yuv_block(params, block));
  }
}

// Whether every pair of elements and of samples starts where one access may.
template <typename T>
bool can_pair(const void* rgb, const MutableYuvPlanes& out) {
  const bool are_pairs = out.width % 2 == 0 && out.height % 2 == 0 &&
                         is_aligned(rgb, 2 * sizeof(T)) && is_aligned(out.y, 2) &&
                         out.y_pitch_bytes % 2 == 0;
  if (out.chroma_step == 1) return are_pairs;
  return are_pairs && out.v == out.u + 1 && is_aligned(out.u, 2) && out.u_pitch_bytes % 2 == 0;
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
    if (can_pair<T>(rgb, out))
      rgb_to_yuv_kernel<T, true><<<grid, block, 0, stream>>>(elements, params, out);
    else
      rgb_to_yuv_kernel<T, false><<<grid, block, 0, stream>>>(elements, params, out);
  });
  check_launch("rgb_to_yuv");
}

}  // namespace lpnode::kernels
