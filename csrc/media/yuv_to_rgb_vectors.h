// YuvToRgb::convert with vectors, written over the operations V of one instruction set. Private to the
// including file, as is V: each file is compiled for its own processors, and code shared by the linker
// would run on the wrong ones.
//
// V has the registers Words (kOutputs of int16_t) and Floats (half as many), and:
//   words_of, floats_of     one value in every place
//   add, subtract           of words, wrapping; add_saturated, subtract_saturated
//   multiply_q15            (a * b) / 32768, rounded
//   shifted_left<bits>, clamped (to lowest..highest)
//   load_bytes(at)          kOutputs bytes as words; load_bytes(at, count) only the first `count`
//   load_pairs(at)          kOutputs pairs of bytes, each in one word; load_pairs(at, count) likewise
//   low_bytes, high_bytes   of each word, as a word
//   store_words             to aligned memory
//   sample<reach>           one row's kOutputs samples in the order that lower and upper need
//   lower, upper            the first and the last half of the outputs, as floats
//   multiply_add            a * b + c
//   store(low, high, out)   2 x Floats as float or Half
#pragma once

#include "media/yuv_to_rgb_rows.h"

namespace lpnode::media {
namespace {

template <typename V>
struct VectorRows {
  using Words = typename V::Words;

  static Words mix(Words upper, Words lower, Words weight, Words offset) {
    const Words change = V::template shifted_left<7>(V::subtract(lower, upper));
    const Words start = V::template shifted_left<7>(V::subtract(upper, offset));
    return V::add(start, V::multiply_q15(change, weight));
  }

  static void mix_row(const uint8_t* upper, const uint8_t* lower, int count, int16_t weight,
                      int16_t offset, int16_t* out) {
    const Words weights = V::words_of(weight), offsets = V::words_of(offset);
    const auto put = [&](int i, Words above, Words below) {
      V::store_words(out + i, mix(above, below, weights, offsets));
    };
    int i = 0;
    for (; i + V::kOutputs <= count; i += V::kOutputs)
      put(i, V::load_bytes(upper + i), V::load_bytes(lower + i));
    if (i < count) put(i, V::load_bytes(upper + i, count - i), V::load_bytes(lower + i, count - i));
    out[count] = out[count - 1];
  }

  static void mix_interleaved_row(const uint8_t* upper, const uint8_t* lower, int count,
                                  int16_t weight, int16_t* u_out, int16_t* v_out) {
    const Words weights = V::words_of(weight), offsets = V::words_of(128);
    const auto put = [&](int i, Words above, Words below) {
      V::store_words(u_out + i, mix(V::low_bytes(above), V::low_bytes(below), weights, offsets));
      V::store_words(v_out + i, mix(V::high_bytes(above), V::high_bytes(below), weights, offsets));
    };
    int i = 0;
    for (; i + V::kOutputs <= count; i += V::kOutputs)
      put(i, V::load_pairs(upper + 2 * i), V::load_pairs(lower + 2 * i));
    if (i < count)
      put(i, V::load_pairs(upper + 2 * i, count - i), V::load_pairs(lower + 2 * i, count - i));
    u_out[count] = u_out[count - 1];
    v_out[count] = v_out[count - 1];
  }
};

template <typename Out>
struct Planes {
  Out *red, *green, *blue;
};

template <typename V, typename Out>
inline void emit(typename V::Words levels, typename V::Floats scale, typename V::Floats offset,
                 Out* out) {
  levels = V::clamped(levels, V::words_of(0), V::words_of(255 * 64));
  V::store(V::multiply_add(V::lower(levels), scale, offset),
           V::multiply_add(V::upper(levels), scale, offset), out);
}

template <typename V, Reach luma_reach, Reach chroma_reach, typename Out>
void convert_row(const YuvToRgbTables& t, const MixedRow& row, Planes<Out> out) {
  using Words = typename V::Words;
  using Floats = typename V::Floats;
  const Words luma = V::words_of(t.colour.luma), red_v = V::words_of(t.colour.red_v);
  const Words green_u = V::words_of(t.colour.green_u), green_v = V::words_of(t.colour.green_v);
  const Words blue_u = V::words_of(t.colour.blue_u);
  const Floats scale = V::floats_of(t.scale), offset = V::floats_of(t.offset);
  const auto convert_group = [&](int group, Planes<Out> to) {
    const Words sampled = V::template sample<luma_reach>(row.y, t.luma_columns, group);
    const Words y = V::multiply_q15(sampled, luma);
    const Words u = V::template sample<chroma_reach>(row.u, t.chroma_columns, group);
    const Words v = V::template sample<chroma_reach>(row.v, t.chroma_columns, group);
    emit<V>(V::add_saturated(y, V::multiply_q15(v, red_v)), scale, offset, to.red);
    const Words green = V::add(V::multiply_q15(u, green_u), V::multiply_q15(v, green_v));
    emit<V>(V::subtract_saturated(y, green), scale, offset, to.green);
    const Words blue = V::add_saturated(V::add_saturated(y, u), V::multiply_q15(u, blue_u));
    emit<V>(blue, scale, offset, to.blue);
  };
  const int whole = t.width / V::kOutputs, rest = t.width % V::kOutputs;
  for (int group = 0; group < whole; ++group) {
    const int x = group * V::kOutputs;
    convert_group(group, {out.red + x, out.green + x, out.blue + x});
  }
  if (rest == 0) return;
  Out room[3][V::kOutputs];
  convert_group(whole, {room[0], room[1], room[2]});
  const int x = whole * V::kOutputs;
  const size_t rest_bytes = rest * sizeof(Out);
  __builtin_memcpy(out.red + x, room[0], rest_bytes);
  __builtin_memcpy(out.green + x, room[1], rest_bytes);
  __builtin_memcpy(out.blue + x, room[2], rest_bytes);
}

template <typename V, typename Out>
void convert(const YuvToRgbTables& t, const YuvView& source, Out* out) {
  MixedRow row;
  const ptrdiff_t plane = ptrdiff_t{t.width} * t.height;
  for (int line = 0; line < t.height; ++line) {
    prefetch_below(t, source, line);
    mix_planes<VectorRows<V>>(t, source, line, row);
    Out* red = out + ptrdiff_t{line} * t.width;
    const Planes<Out> planes{red, red + plane, red + 2 * plane};
    switch (t.reach) {
      case Reach::kNear:
        convert_row<V, Reach::kNear, Reach::kNear>(t, row, planes);
        break;
      case Reach::kFar:
        convert_row<V, Reach::kFar, Reach::kNear>(t, row, planes);
        break;
      case Reach::kAnywhere:
        convert_row<V, Reach::kAnywhere, Reach::kAnywhere>(t, row, planes);
        break;
    }
  }
}

}  // namespace
}  // namespace lpnode::media
