// The frame around the three implementations of rgb_to_yuv: walks pairs of rows in blocks of columns
// and pads the last block. A Block converts kColumns columns of two rows. Plain data only, and all of
// it private to the including file, as in yuv_to_rgb_rows.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "media/half.h"
#include "media/rgb_to_yuv.h"

namespace lpnode::media {

// Coefficients for clamped input in its own range: levels = c_r r + c_g g + c_b b + offset. Those of
// chroma are a quarter, to be applied to the sum of four.
struct RgbToYuvCoefficients {
  float low, high;
  float y_r, y_g, y_b, y_offset;
  float u_r, u_g, u_b, u_offset;
  float v_r, v_g, v_b, v_offset;
};

void rgb_to_yuv_portable(const RgbToYuvSpec& spec, const RgbToYuvCoefficients& k, const float* rgb,
                         const MutableYuvView& out) noexcept;
void rgb_to_yuv_portable(const RgbToYuvSpec& spec, const RgbToYuvCoefficients& k, const Half* rgb,
                         const MutableYuvView& out) noexcept;
void rgb_to_yuv_avx2(const RgbToYuvSpec& spec, const RgbToYuvCoefficients& k, const float* rgb,
                     const MutableYuvView& out) noexcept;
void rgb_to_yuv_avx2(const RgbToYuvSpec& spec, const RgbToYuvCoefficients& k, const Half* rgb,
                     const MutableYuvView& out) noexcept;
void rgb_to_yuv_avx512(const RgbToYuvSpec& spec, const RgbToYuvCoefficients& k, const float* rgb,
                       const MutableYuvView& out) noexcept;
void rgb_to_yuv_avx512(const RgbToYuvSpec& spec, const RgbToYuvCoefficients& k, const Half* rgb,
                       const MutableYuvView& out) noexcept;

namespace {

// Two rows of each colour; in the last row of an odd height both are the same.
template <typename In>
struct RowPair {
  const In *red[2], *green[2], *blue[2];
};

struct YuvRows {
  uint8_t *y[2], *u, *v;
};

template <typename Block, typename In>
void convert_last_columns(const Block& block, const RowPair<In>& in, int first, int count,
                          const YuvRows& out) {
  In room[6][Block::kColumns];
  const In* rows[6] = {in.red[0],   in.red[1],  in.green[0],
                       in.green[1], in.blue[0], in.blue[1]};
  for (int r = 0; r < 6; ++r)
    for (int i = 0; i < Block::kColumns; ++i)
      room[r][i] = rows[r][first + (i < count ? i : count - 1)];
  uint8_t y[2][Block::kColumns], u[Block::kColumns / 2], v[Block::kColumns / 2];
  block.convert(RowPair<In>{{room[0], room[1]}, {room[2], room[3]}, {room[4], room[5]}}, 0,
                YuvRows{{y[0], y[1]}, u, v});
  for (int r = 0; r < 2; ++r) __builtin_memcpy(out.y[r] + first, y[r], count);
  __builtin_memcpy(out.u + first / 2, u, (count + 1) / 2);
  __builtin_memcpy(out.v + first / 2, v, (count + 1) / 2);
}

template <typename Block, typename In>
void convert_row_pairs(const Block& block, const RgbToYuvSpec& spec, const In* rgb,
                       const MutableYuvView& out) {
  const ptrdiff_t width = spec.width, plane = width * spec.height;
  for (int line = 0; line < spec.height; line += 2) {
    const int below = line + 1 < spec.height ? line + 1 : line;
    const In *upper = rgb + line * width, *lower = rgb + below * width;
    const RowPair<In> in{{upper, lower},
                         {upper + plane, lower + plane},
                         {upper + 2 * plane, lower + 2 * plane}};
    const YuvRows rows{{out.y + line * out.y_pitch_bytes, out.y + below * out.y_pitch_bytes},
                       out.u + line / 2 * out.u_pitch_bytes,
                       out.v + line / 2 * out.v_pitch_bytes};
    int x = 0;
    for (; x + Block::kColumns <= spec.width; x += Block::kColumns) block.convert(in, x, rows);
    if (x < spec.width) convert_last_columns(block, in, x, spec.width - x, rows);
  }
}

}  // namespace
}  // namespace lpnode::media
