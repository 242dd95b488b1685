// What the three implementations of YuvToRgb::convert share: plain data only. Files compiled for a
// wider instruction set must not instantiate inline library code that the linker could then pick for
// the rest of the program.
#pragma once

#include <cstddef>
#include <cstdint>

#include "media/half.h"

namespace lpnode::media {

// The planes of one picture. For NV12 `u` holds U and V interleaved and `v` is null.
struct YuvView {
  const uint8_t* y;
  const uint8_t* u;
  const uint8_t* v;
  ptrdiff_t y_pitch_bytes, u_pitch_bytes, v_pitch_bytes;
};

// Row `upper` and row `lower` mixed; weight is the lower one's, in 1/32768.
struct RowTap {
  int32_t upper, lower;
  int16_t weight;
};

// The source columns that are read at all.
struct ColumnSpan {
  int32_t first, count;
};

inline constexpr int kPermuteOutputs = 32;
inline constexpr int kShuffleOutputs = 16;

// AVX-512: 32 outputs from a window of 64 or 128 columns that starts at `base`. Entries are ordered so
// that unpacklo and unpackhi of the result give outputs 0..15 and 16..31.
struct alignas(64) PermuteGroup {
  int16_t index[kPermuteOutputs];
  int16_t weight[kPermuteOutputs];
  int32_t base;
};

// AVX2: 16 outputs as 4 x 4, each four from a window of 8 columns. Vector 0 holds outputs 0..3 and
// 4..7, vector 1 outputs 8..11 and 12..15, as pairs (left, right) with weights in 1/16384.
struct alignas(32) ShuffleGroup {
  uint8_t shuffle[2][32];
  int16_t weights[2][16];
  int32_t base[4];
};

// How the columns of an axis are picked.
enum class Reach : int {
  kNear,     // a window of 64 columns (AVX-512) or 8 columns (AVX2) reaches all of a group
  kFar,      // chroma is near; luma takes two windows (AVX-512) or is gathered (AVX2)
  kAnywhere  // both are gathered
};

struct ColumnTables {
  const int32_t* first;   // left column of each output, relative to the span; padded to 32 outputs
  const int16_t* weight;  // the right column's, in 1/32768; padded
  const PermuteGroup* permute;
  const ShuffleGroup* shuffle;
  ColumnSpan span;
};

// Coefficients in 1/32768, halved: products of 9.7 samples come out as 10.6. `blue_u` is less one,
// because half of it may exceed one.
struct ColourQ15 {
  int16_t luma, red_v, green_u, green_v, blue_u;
};

struct YuvToRgbTables {
  ColumnTables luma_columns, chroma_columns;
  Reach reach;
  const RowTap* luma_rows;
  const RowTap* chroma_rows;
  ColourQ15 colour;
  int16_t luma_offset;
  float scale, offset;  // from 10.6 to the wanted range
  int width, height;
};

inline constexpr int kMaxSourceSide = 16384;

// One row of each plane after the vertical mix, as 9.7 fixed point less the offset, with space behind
// for a window that begins at the last column. Lives on the stack; only the used part is touched.
struct MixedRow {
  static constexpr int kWindowSlack = 160;
  alignas(64) int16_t y[kMaxSourceSide + kWindowSlack];
  alignas(64) int16_t u[kMaxSourceSide / 2 + kWindowSlack];
  alignas(64) int16_t v[kMaxSourceSide / 2 + kWindowSlack];
};

namespace {

// Always inline: gcc 12 takes a function that only prefetches to have no effect, and drops the call.
[[gnu::always_inline]] inline void prefetch_bytes(const uint8_t* at, int count) {
  for (int i = 0; i < count; i += 64) __builtin_prefetch(at + i);
}

[[gnu::always_inline]] inline void prefetch_rows(const uint8_t* plane, ptrdiff_t pitch_bytes,
                                                 const RowTap& tap, int first, int count) {
  prefetch_bytes(plane + tap.upper * pitch_bytes + first, count);
  prefetch_bytes(plane + tap.lower * pitch_bytes + first, count);
}

// Asks for the source of a line a little below this one: the jumps from row to row of a crop are more
// than the hardware foresees.
[[gnu::always_inline]] inline void prefetch_below(const YuvToRgbTables& t, const YuvView& source,
                                                  int line) {
  constexpr int kLinesAhead = 4;
  if (line + kLinesAhead >= t.height) return;
  const RowTap &y = t.luma_rows[line + kLinesAhead], &c = t.chroma_rows[line + kLinesAhead];
  const ColumnSpan luma = t.luma_columns.span, chroma = t.chroma_columns.span;
  prefetch_rows(source.y, source.y_pitch_bytes, y, luma.first, luma.count);
  const int step = source.v == nullptr ? 2 : 1;
  prefetch_rows(source.u, source.u_pitch_bytes, c, step * chroma.first, step * chroma.count);
  if (source.v != nullptr)
    prefetch_rows(source.v, source.v_pitch_bytes, c, chroma.first, chroma.count);
}

// The vertical step of one line, for all three planes. `Rows` mixes two rows into one: `mix_row` of a
// plane, `mix_interleaved_row` of NV12's chroma. Both repeat the last column behind the row and may
// write into the slack.
template <typename Rows>
void mix_planes(const YuvToRgbTables& t, const YuvView& source, int line, MixedRow& row) {
  const RowTap y = t.luma_rows[line], c = t.chroma_rows[line];
  const ColumnSpan luma = t.luma_columns.span, chroma = t.chroma_columns.span;
  const ptrdiff_t y_pitch = source.y_pitch_bytes;
  const uint8_t* y_plane = source.y + luma.first;
  Rows::mix_row(y_plane + y.upper * y_pitch, y_plane + y.lower * y_pitch, luma.count, y.weight,
                t.luma_offset, row.y);
  const ptrdiff_t u_pitch = source.u_pitch_bytes, v_pitch = source.v_pitch_bytes;
  if (source.v == nullptr) {
    const uint8_t* uv = source.u + 2 * chroma.first;
    Rows::mix_interleaved_row(uv + c.upper * u_pitch, uv + c.lower * u_pitch, chroma.count,
                              c.weight, row.u, row.v);
    return;
  }
  const uint8_t *u = source.u + chroma.first, *v = source.v + chroma.first;
  Rows::mix_row(u + c.upper * u_pitch, u + c.lower * u_pitch, chroma.count, c.weight, 128, row.u);
  Rows::mix_row(v + c.upper * v_pitch, v + c.lower * v_pitch, chroma.count, c.weight, 128, row.v);
}

}  // namespace

void yuv_to_rgb_portable(const YuvToRgbTables& tables, const YuvView& source, float* out) noexcept;
void yuv_to_rgb_portable(const YuvToRgbTables& tables, const YuvView& source, Half* out) noexcept;
void yuv_to_rgb_avx2(const YuvToRgbTables& tables, const YuvView& source, float* out) noexcept;
void yuv_to_rgb_avx2(const YuvToRgbTables& tables, const YuvView& source, Half* out) noexcept;
void yuv_to_rgb_avx512(const YuvToRgbTables& tables, const YuvView& source, float* out) noexcept;
void yuv_to_rgb_avx512(const YuvToRgbTables& tables, const YuvView& source, Half* out) noexcept;

}  // namespace lpnode::media
