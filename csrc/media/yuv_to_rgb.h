// An 8-bit 4:2:0 picture to planar RGB floats: crop, bilinear resize, colour and normalisation in one
// pass over the source, without intermediate pictures.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/colour_matrix.h"
#include "media/half_float.h"
#include "media/yuv_to_rgb_rows.h"
#include "simd_path.h"

namespace lpnode::media {

// A rectangle of the source in luma pixels; edges may fall between pixels.
struct CropRect {
  double x, y, width, height;
};

struct YuvToRgbSpec {
  int source_width, source_height;
  CropRect crop;
  int width, height;  // of the RGB planes
  Matrix matrix;
  bool is_full_range;
  float black, white;  // the value RGB 0 and RGB 255 get, e.g. -1 and 1
};

// The sampling tables of one geometry, made once and used for every frame.
//
// Sampling: half-pixel centres; a sample outside the picture takes the edge pixel; chroma is taken to
// lie in the middle of its 2x2 luma block, as rgb_to_yuv puts it there.
// Precision: the result is within 0.1 of an 8-bit level of the same arithmetic in float32.
class YuvToRgb {
 public:
  // Throws InvalidArgument for sizes out of 1..kMaxSourceSide, a crop that is empty or leaves the
  // source, or black == white.
  YuvToRgb(const YuvToRgbSpec& spec, SimdPath path);

  // out: 3 planes of height rows of width values, contiguous. The planes of `source` have the size
  // given in the spec, chroma rounded up. Does not allocate; may be called from several threads.
  void convert(const YuvView& source, float* out) const noexcept;
  void convert(const YuvView& source, Half* out) const noexcept;

  [[nodiscard]] const YuvToRgbSpec& spec() const noexcept { return spec_; }
  [[nodiscard]] SimdPath path() const noexcept { return path_; }

 private:
  struct Axis {
    std::vector<int32_t> first;
    std::vector<int16_t> weight;
    std::vector<PermuteGroup> permute;
    std::vector<ShuffleGroup> shuffle;
    ColumnSpan span{};
  };

  [[nodiscard]] Axis sample_columns(double origin, double step, int source_size) const;
  [[nodiscard]] std::vector<RowTap> sample_rows(double origin, double step, int source_size) const;
  [[nodiscard]] YuvToRgbTables tables() const noexcept;

  YuvToRgbSpec spec_;
  SimdPath path_;
  Axis luma_columns_, chroma_columns_;
  std::vector<RowTap> luma_rows_, chroma_rows_;
  Reach reach_{};
};

}  // namespace lpnode::media
