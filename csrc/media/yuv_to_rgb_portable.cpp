// The reference of the three paths: the same fixed-point steps in plain C++.
#include <algorithm>

#include "media/half_float.h"
#include "media/yuv_to_rgb_rows.h"

namespace lpnode::media {
namespace {

// (a * b) / 32768, rounded.
inline int multiply_q15(int16_t a, int16_t b) { return (a * b + 0x4000) >> 15; }

// Every `step`th byte of two rows mixed.
template <int step>
void mix_bytes(const uint8_t* upper, const uint8_t* lower, int count, int16_t weight, int16_t offset,
               int16_t* __restrict out) {
  for (int i = 0; i < count; ++i) {
    const auto change = static_cast<int16_t>((lower[i * step] - upper[i * step]) * 128);
    out[i] = static_cast<int16_t>((upper[i * step] - offset) * 128 + multiply_q15(change, weight));
  }
  out[count] = out[count - 1];
}

struct PortableRows {
  static void mix_row(const uint8_t* upper, const uint8_t* lower, int count, int16_t weight,
                      int16_t offset, int16_t* out) {
    mix_bytes<1>(upper, lower, count, weight, offset, out);
  }
  static void mix_interleaved_row(const uint8_t* upper, const uint8_t* lower, int count,
                                  int16_t weight, int16_t* u_out, int16_t* v_out) {
    mix_bytes<2>(upper, lower, count, weight, 128, u_out);
    mix_bytes<2>(upper + 1, lower + 1, count, weight, 128, v_out);
  }
};

// Samples are picked for a block of outputs before they are coloured: picking is scalar, and the loops
// over a whole block are left to the compiler to vectorise.
constexpr int kBlock = 64;

struct Samples {
  int16_t left[kBlock], right[kBlock];
  int16_t mixed[kBlock];
};

void sample(const int16_t* row, const ColumnTables& columns, int first, int count, Samples& out) {
  for (int i = 0; i < count; ++i) {
    const int16_t* pair = row + columns.first[first + i];
    out.left[i] = pair[0];
    out.right[i] = pair[1];
  }
  const int16_t* weight = columns.weight + first;
  for (int i = 0; i < count; ++i) {
    const auto change = static_cast<int16_t>(out.right[i] - out.left[i]);
    out.mixed[i] = static_cast<int16_t>(out.left[i] + multiply_q15(change, weight[i]));
  }
}

inline void store(float value, float* out) { *out = value; }
inline void store(float value, Half* out) { *out = to_half(value); }

// levels: 10.6 fixed point, not yet clamped.
template <typename Out>
void emit(const int* levels, int count, float scale, float offset, Out* out) {
  for (int i = 0; i < count; ++i) {
    int level = levels[i] > 0 ? levels[i] : 0;
    level = level < 255 * 64 ? level : 255 * 64;
    store(static_cast<float>(level) * scale + offset, out + i);
  }
}

template <typename Out>
void convert_block(const YuvToRgbTables& t, const MixedRow& row, int first, int count,
                   ptrdiff_t plane, Out* red) {
  Samples luma, u, v;
  sample(row.y, t.luma_columns, first, count, luma);
  sample(row.u, t.chroma_columns, first, count, u);
  sample(row.v, t.chroma_columns, first, count, v);
  int levels[3][kBlock];
  for (int i = 0; i < count; ++i) {
    const int16_t u_in = u.mixed[i], v_in = v.mixed[i];
    const int y = multiply_q15(luma.mixed[i], t.colour.luma);
    levels[0][i] = y + multiply_q15(v_in, t.colour.red_v);
    levels[1][i] =
        y - multiply_q15(u_in, t.colour.green_u) - multiply_q15(v_in, t.colour.green_v);
    levels[2][i] = y + u_in + multiply_q15(u_in, t.colour.blue_u);
  }
  for (int colour = 0; colour < 3; ++colour)
    emit(levels[colour], count, t.scale, t.offset, red + colour * plane + first);
}

template <typename Out>
void convert(const YuvToRgbTables& t, const YuvView& source, Out* out) {
  MixedRow row;
  const ptrdiff_t plane = ptrdiff_t{t.width} * t.height;
  for (int line = 0; line < t.height; ++line) {
    mix_planes<PortableRows>(t, source, line, row);
    Out* red = out + ptrdiff_t{line} * t.width;
    for (int first = 0; first < t.width; first += kBlock)
      convert_block(t, row, first, std::min(kBlock, t.width - first), plane, red);
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
