// Planar RGB floats to an 8-bit 4:2:0 picture of the same size, in one pass.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/colour_matrix.h"
#include "media/half.h"
#include "simd_path.h"

namespace lpnode::media {

struct RgbToYuvSpec {
  int width, height;
  Matrix matrix;
  bool is_full_range;
  float black, white;  // the values that become RGB 0 and RGB 255
};

// Planes that are written: chroma has (width + 1) / 2 columns and (height + 1) / 2 rows.
struct MutableYuvView {
  uint8_t *y, *u, *v;
  ptrdiff_t y_pitch_bytes, u_pitch_bytes, v_pitch_bytes;
};

// rgb: 3 planes of height rows of width values, contiguous. Values outside black..white are clamped,
// NaN becomes black. Chroma is the mean of each 2x2 block, edges repeated where a size is odd: the
// sample lies in the middle of its block. Rounds to nearest. Does not allocate.
void rgb_to_yuv(const RgbToYuvSpec& spec, SimdPath path, const float* rgb,
                const MutableYuvView& out) noexcept;
void rgb_to_yuv(const RgbToYuvSpec& spec, SimdPath path, const Half* rgb,
                const MutableYuvView& out) noexcept;

}  // namespace lpnode::media
