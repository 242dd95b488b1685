// The reference of the three paths: the same fixed-point steps, one value at a time.
#include <algorithm>

#include "media/half_float.h"
#include "media/yuv_to_rgb_rows.h"

namespace lpnode::media {
namespace {

// (a * b) / 32768, rounded.
inline int multiply_q15(int a, int b) { return (a * b + 0x4000) >> 15; }

void mix_row(const uint8_t* upper, const uint8_t* lower, int step, int count, int weight, int offset,
             int16_t* out) {
  for (int i = 0; i < count; ++i) {
    const int above = upper[i * step], below = lower[i * step];
    out[i] = static_cast<int16_t>((above - offset) * 128 +
                                  multiply_q15((below - above) * 128, weight));
  }
  out[count] = out[count - 1];
}

inline int sample(const int16_t* row, const ColumnTables& columns, int i) {
  const int16_t* pair = row + columns.first[i];
  return pair[0] + multiply_q15(pair[1] - pair[0], columns.weight[i]);
}

inline void store(float value, float* out) { *out = value; }
inline void store(float value, Half* out) { *out = to_half(value); }

template <typename Out>
void emit(int level, const YuvToRgbTables& t, Out* out) {
  store(static_cast<float>(std::clamp(level, 0, 255 * 64)) * t.scale + t.offset, out);
}

template <typename Out>
void convert(const YuvToRgbTables& t, const YuvView& source, Out* out) {
  MixedRow row;
  const ptrdiff_t plane = ptrdiff_t{t.width} * t.height;
  const bool is_nv12 = source.v == nullptr;
  const int chroma_step = is_nv12 ? 2 : 1;
  const uint8_t* v_plane = is_nv12 ? source.u + 1 : source.v;
  const ptrdiff_t v_pitch = is_nv12 ? source.u_pitch_bytes : source.v_pitch_bytes;
  const ColumnSpan luma = t.luma_columns.span, chroma = t.chroma_columns.span;
  for (int line = 0; line < t.height; ++line) {
    const RowTap y = t.luma_rows[line], c = t.chroma_rows[line];
    const auto at = [](const uint8_t* base, ptrdiff_t pitch, int y_row, int column) {
      return base + y_row * pitch + column;
    };
    const int skip = chroma.first * chroma_step;
    mix_row(at(source.y, source.y_pitch_bytes, y.upper, luma.first),
            at(source.y, source.y_pitch_bytes, y.lower, luma.first), 1, luma.count, y.weight,
            t.luma_offset, row.y);
    mix_row(at(source.u, source.u_pitch_bytes, c.upper, skip),
            at(source.u, source.u_pitch_bytes, c.lower, skip), chroma_step, chroma.count, c.weight,
            128, row.u);
    mix_row(at(v_plane, v_pitch, c.upper, skip), at(v_plane, v_pitch, c.lower, skip), chroma_step,
            chroma.count, c.weight, 128, row.v);
    Out* red = out + ptrdiff_t{line} * t.width;
    for (int i = 0; i < t.width; ++i) {
      const int luma_level = multiply_q15(sample(row.y, t.luma_columns, i), t.colour.luma);
      const int u = sample(row.u, t.chroma_columns, i);
      const int v = sample(row.v, t.chroma_columns, i);
      emit(luma_level + multiply_q15(v, t.colour.red_v), t, red + i);
      emit(luma_level - multiply_q15(u, t.colour.green_u) - multiply_q15(v, t.colour.green_v), t,
           red + plane + i);
      emit(luma_level + u + multiply_q15(u, t.colour.blue_u), t, red + 2 * plane + i);
    }
  }
}

}  // namespace

void yuv_to_rgb_portable(const YuvToRgbTables& tables, const YuvView& source, float* out) noexcept {
  convert(tables, source, out);
}

void yuv_to_rgb_portable(const YuvToRgbTables& tables, const YuvView& source, Half* out) noexcept {
  convert(tables, source, out);
}

}  // namespace lpnode::media
