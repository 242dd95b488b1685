// Every path, and the arithmetic of the CUDA kernel, on planes and tensors of exact size.
#include "media/rgb_to_yuv.h"

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "check.h"
#include "exact_picture.h"
#include "kernels/rgb_to_yuv_block.h"
#include "media/half_float.h"

using namespace lpnode;
using namespace lpnode::media;
using lpnode::test::ExactPlane;

namespace {

struct Picture {
  ExactPlane y, u, v;
  int y_pitch, chroma_pitch;

  Picture(int width, int height, int padding, int chroma_step)
      : y(width, height, width + padding),
        u(chroma_step * ((width + 1) / 2), (height + 1) / 2,
          chroma_step * ((width + 1) / 2) + padding),
        v((width + 1) / 2, (height + 1) / 2, (width + 1) / 2 + padding),
        y_pitch(width + padding),
        chroma_pitch(chroma_step * ((width + 1) / 2) + padding) {}
};

// The largest difference over the pixels of a plane; `step` is that of the right one.
int difference(ExactPlane& left, ExactPlane& right, int columns, int rows, int left_pitch,
               int right_pitch, int step, int first) {
  int largest = 0;
  for (int y = 0; y < rows; ++y)
    for (int x = 0; x < columns; ++x)
      largest = std::max(largest, std::abs(left.data()[y * left_pitch + x] -
                                           right.data()[y * right_pitch + x * step + first]));
  return largest;
}

// The kernel's way of even sizes, as I420 and NV12, gives what the way of all sizes does.
template <typename Load>
void check_pairs(const kernels::RgbToYuvParams& params, const kernels::MutableYuvPlanes& nv12,
                 const Load& load, ptrdiff_t plane) {
  const int width = nv12.width, height = nv12.height;
  const auto load_pair = [&](ptrdiff_t offset) {
    const int colour = static_cast<int>(offset / plane), at = static_cast<int>(offset % plane);
    return kernels::Pair{load(colour, at % width, at / width),
                         load(colour, at % width + 1, at / width)};
  };
  for (const int step : {1, 2}) {
    Picture got(width, height, 2, step);
    const kernels::MutableYuvPlanes out{
        got.y.data(),     got.u.data(),
        step == 2 ? got.u.data() + 1 : got.v.data(), got.y_pitch,
        got.chroma_pitch, step == 2 ? got.chroma_pitch : (width + 1) / 2 + 2,
        step,             width,
        height};
    if (!kernels::stores_pairs(out)) {
      CHECK(width % 2 != 0 || height % 2 != 0);
      continue;
    }
    for (int y = 0; y < height / 2; ++y)
      for (int x = 0; x < width / 2; ++x) {
        const auto block = kernels::load_rgb_pairs(width, height, x, y, load_pair);
        kernels::store_yuv_pairs(out, x, y, kernels::rgb_to_yuv_block(params, block));
      }
    for (int y = 0; y < height; ++y)
      for (int x = 0; x < width; ++x)
        CHECK(out.y[y * out.y_pitch_bytes + x] == nv12.y[y * nv12.y_pitch_bytes + x]);
    for (int y = 0; y < height / 2; ++y)
      for (int x = 0; x < width / 2; ++x) {
        CHECK(out.u[y * out.u_pitch_bytes + x * step] == nv12.u[y * nv12.u_pitch_bytes + 2 * x]);
        CHECK(out.v[y * out.v_pitch_bytes + x * step] == nv12.v[y * nv12.v_pitch_bytes + 2 * x]);
      }
  }
}

template <typename In>
void check_paths(const RgbToYuvSpec& spec, int padding, const In* rgb) {
  const ptrdiff_t plane = ptrdiff_t{spec.width} * spec.height;
  const auto load = [&](int colour, int x, int y) {
    const In value = rgb[colour * plane + ptrdiff_t{y} * spec.width + x];
    if constexpr (std::is_same_v<In, Half>)
      return to_float(value);
    else
      return value;
  };
  // The kernel's arithmetic, written as NV12.
  Picture expected(spec.width, spec.height, padding, 2);
  const kernels::MutableYuvPlanes nv12{expected.y.data(),     expected.u.data(),
                                       expected.u.data() + 1, expected.y_pitch,
                                       expected.chroma_pitch, expected.chroma_pitch,
                                       2,                     spec.width,
                                       spec.height};
  const auto params = kernels::rgb_to_yuv_params(
      rgb_to_yuv_matrix(spec.matrix, spec.is_full_range), spec.black, spec.white);
  const int half_width = (spec.width + 1) / 2, half_height = (spec.height + 1) / 2;
  for (int y = 0; y < half_height; ++y)
    for (int x = 0; x < half_width; ++x) {
      const auto block = kernels::load_rgb_block(spec.width, spec.height, x, y, load);
      kernels::store_yuv_block(nv12, x, y, kernels::rgb_to_yuv_block(params, block));
    }

  check_pairs(params, nv12, load, plane);

  for (const SimdPath path : test::paths_of_this_machine()) {
    Picture got(spec.width, spec.height, padding, 1);
    rgb_to_yuv(spec, path, rgb,
               {got.y.data(), got.u.data(), got.v.data(), got.y_pitch, got.chroma_pitch,
                got.chroma_pitch});
    // Sums in another order may fall on the other side of a half.
    CHECK(difference(got.y, expected.y, spec.width, spec.height, got.y_pitch, expected.y_pitch, 1,
                     0) <= 1);
    CHECK(difference(got.u, expected.u, half_width, half_height, got.chroma_pitch,
                     expected.chroma_pitch, 2, 0) <= 1);
    CHECK(difference(got.v, expected.u, half_width, half_height, got.chroma_pitch,
                     expected.chroma_pitch, 2, 1) <= 1);
  }
}

void all_paths_read_and_write_only_their_own() {
  std::mt19937 random(9);
  std::uniform_real_distribution<float> values(-1.5f, 1.5f);
  for (const int width : {1, 2, 3, 15, 16, 17, 31, 32, 33, 65, 100})
    for (const int height : {1, 2, 5, 8}) {
      const size_t size = 3 * static_cast<size_t>(width) * height;
      const auto rgb = std::make_unique<float[]>(size);
      const auto halves = std::make_unique<Half[]>(size);
      for (size_t i = 0; i < size; ++i) {
        rgb[i] = values(random);
        halves[i] = to_half(rgb[i]);
      }
      const RgbToYuvSpec spec{width, height, width % 2 ? Matrix::kBt601 : Matrix::kBt709,
                              height % 2 == 0, -1, 1};
      check_paths(spec, height % 3, rgb.get());
      check_paths(spec, height % 3, halves.get());
    }
}

void pure_colours_at_full_range_are_cut_not_wrapped() {
  constexpr int kSide = 32;
  for (int colour = 0; colour < 8; ++colour) {
    const auto rgb = std::make_unique<float[]>(3 * kSide * kSide);
    for (int i = 0; i < 3 * kSide * kSide; ++i)
      rgb[i] = (colour >> (i / (kSide * kSide))) & 1 ? 1.0f : 0.0f;
    check_paths({kSide, kSide, Matrix::kBt709, true, 0, 1}, 0, rgb.get());
  }
}

}  // namespace

int main() {
  all_paths_read_and_write_only_their_own();
  pure_colours_at_full_range_are_cut_not_wrapped();
  return test::finish();
}
