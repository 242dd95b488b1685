// Every path, and the arithmetic of the CUDA kernel, on planes and tensors of exact size.
#include "media/yuv_to_rgb.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "check.h"
#include "error.h"
#include "exact_picture.h"
#include "kernels/yuv_to_rgb_pixel.h"

using namespace lpnode;
using namespace lpnode::media;
using lpnode::test::ExactPlane;

namespace {

// Fixed-point steps; see YuvToRgb. The kernel's float32 positions add less than a tenth of that.
constexpr float kToleranceLevels = 0.11f;

kernels::YuvPlanes planes_of(const YuvView& view, int width, int height) {
  if (view.v == nullptr)
    return {view.y,  view.u, view.u + 1, view.y_pitch_bytes, view.u_pitch_bytes, view.u_pitch_bytes,
            2,       width,  height};
  return {view.y, view.u, view.v, view.y_pitch_bytes, view.u_pitch_bytes, view.v_pitch_bytes,
          1,      width,  height};
}

float largest_difference(const YuvToRgbSpec& spec, const YuvView& view, const float* rgb) {
  const auto params = kernels::yuv_to_rgb_params(
      spec.crop.x, spec.crop.y, spec.crop.width, spec.crop.height, spec.width, spec.height,
      yuv_to_rgb_matrix(spec.matrix, spec.is_full_range), spec.black, spec.white);
  const auto planes = planes_of(view, spec.source_width, spec.source_height);
  const ptrdiff_t plane = ptrdiff_t{spec.width} * spec.height;
  float largest = 0;
  for (int y = 0; y < spec.height; ++y)
    for (int x = 0; x < spec.width; ++x) {
      const auto pixel = kernels::yuv_to_rgb_pixel(planes, params, x, y);
      const float* at = rgb + ptrdiff_t{y} * spec.width + x;
      largest = std::max({largest, std::abs(pixel.red - at[0]), std::abs(pixel.green - at[plane]),
                          std::abs(pixel.blue - at[2 * plane])});
    }
  return largest;
}

void check_paths(const YuvToRgbSpec& spec, bool is_nv12, int padding, std::mt19937& random) {
  const int half_width = (spec.source_width + 1) / 2, half_height = (spec.source_height + 1) / 2;
  const int chroma_bytes = is_nv12 ? 2 * half_width : half_width;
  ExactPlane y(spec.source_width, spec.source_height, spec.source_width + padding);
  ExactPlane u(chroma_bytes, half_height, chroma_bytes + padding);
  ExactPlane v(half_width, half_height, half_width + padding + 1);
  for (ExactPlane* plane : {&y, &u, &v}) plane->fill_with_noise(random);
  const YuvView view{y.data(),
                     u.data(),
                     is_nv12 ? nullptr : v.data(),
                     spec.source_width + padding,
                     chroma_bytes + padding,
                     half_width + padding + 1};
  const size_t size = 3 * static_cast<size_t>(spec.width) * spec.height;
  const float tolerance = kToleranceLevels * std::abs(spec.white - spec.black) / 255;
  for (const SimdPath path : test::paths_of_this_machine()) {
    const YuvToRgb converter(spec, path);
    const auto rgb = std::make_unique<float[]>(size);
    converter.convert(view, rgb.get());
    CHECK(largest_difference(spec, view, rgb.get()) <= tolerance);
    const auto halves = std::make_unique<Half[]>(size);
    converter.convert(view, halves.get());
    bool are_rounded = true;
    for (size_t i = 0; i < size; ++i)
      // The portable path may round the product before the sum: one unit in the last place.
      are_rounded = are_rounded && std::abs(to_half(rgb[i]).bits - halves[i].bits) <= 1;
    CHECK(are_rounded);
  }
}

void all_paths_read_and_write_only_their_own() {
  std::mt19937 random(7);
  const int sizes[][2] = {{1, 1},  {2, 2},   {3, 5},   {16, 4},  {31, 7},
                          {33, 9}, {65, 13}, {97, 33}, {130, 6}, {1000, 10}};
  for (const auto& source : sizes)
    for (const auto& target : sizes)
      for (const bool is_nv12 : {false, true}) {
        const bool is_709 = (source[0] + target[0]) % 2 == 0;
        const YuvToRgbSpec spec{source[0],
                                source[1],
                                {0, 0, static_cast<double>(source[0]), static_cast<double>(source[1])},
                                target[0],
                                target[1],
                                is_709 ? Matrix::kBt709 : Matrix::kBt601,
                                target[1] % 2 == 0,
                                -1,
                                1};
        check_paths(spec, is_nv12, source[0] % 3, random);
      }
}

void crops_at_the_corners_stay_inside() {
  std::mt19937 random(8);
  for (const double side : {0.25, 1.0, 17.5, 40.0})
    for (const double x : {0.0, 77.0 - side})
      for (const double y : {0.0, 51.0 - side})
        check_paths({77, 51, {x, y, side, side}, 70, 5, Matrix::kBt709, false, 0, 1}, false, 0,
                    random);
}

void what_makes_no_sense_is_refused() {
  const YuvToRgbSpec good{64, 64, {0, 0, 64, 64}, 8, 8, Matrix::kBt709, false, 0, 1};
  const auto make = [](YuvToRgbSpec spec) { YuvToRgb(spec, SimdPath::kPortable); };
  make(good);
  YuvToRgbSpec bad = good;
  bad.source_width = 16385;
  CHECK_THROWS(make(bad), InvalidArgument);
  bad = good;
  bad.height = 0;
  CHECK_THROWS(make(bad), InvalidArgument);
  bad = good;
  bad.crop.width = 65;
  CHECK_THROWS(make(bad), InvalidArgument);
  bad = good;
  bad.white = 0;
  CHECK_THROWS(make(bad), InvalidArgument);
  CHECK_THROWS(static_cast<void>(simd_path_named("sse", kFramePaths)), InvalidArgument);
}

}  // namespace

int main() {
  all_paths_read_and_write_only_their_own();
  crops_at_the_corners_stay_inside();
  what_makes_no_sense_is_refused();
  return test::finish();
}
