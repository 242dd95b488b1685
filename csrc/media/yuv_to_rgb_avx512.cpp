// 32 outputs at a time. Samples are picked by word permutes out of two (or four) registers; the order
// of the tables makes the later unpacking to 32 bits come out sorted.
#include <immintrin.h>

#include "media/yuv_to_rgb_rows.h"

namespace lpnode::media {
namespace {

inline __m512i mix(__m512i upper, __m512i lower, __m512i weight, __m512i offset) {
  const __m512i change = _mm512_slli_epi16(_mm512_sub_epi16(lower, upper), 7);
  const __m512i start = _mm512_slli_epi16(_mm512_sub_epi16(upper, offset), 7);
  return _mm512_add_epi16(start, _mm512_mulhrs_epi16(change, weight));
}

inline __m512i load_bytes(const uint8_t* at, int left) {
  const __mmask32 mask = left >= 32 ? 0xffffffffu : (1u << left) - 1;
  return _mm512_cvtepu8_epi16(_mm256_maskz_loadu_epi8(mask, at));
}

void mix_row(const uint8_t* upper, const uint8_t* lower, int count, int16_t weight, int16_t offset,
             int16_t* out) {
  const __m512i weights = _mm512_set1_epi16(weight), offsets = _mm512_set1_epi16(offset);
  for (int i = 0; i < count; i += 32) {
    const __m512i above = load_bytes(upper + i, count - i);
    const __m512i below = load_bytes(lower + i, count - i);
    _mm512_store_si512(out + i, mix(above, below, weights, offsets));
  }
  out[count] = out[count - 1];
}

inline __m512i load_pairs(const uint8_t* at, int left) {
  const __mmask32 mask = left >= 32 ? 0xffffffffu : (1u << left) - 1;
  return _mm512_maskz_loadu_epi16(mask, at);
}

void mix_interleaved_row(const uint8_t* upper, const uint8_t* lower, int count, int16_t weight,
                         int16_t* u_out, int16_t* v_out) {
  const __m512i weights = _mm512_set1_epi16(weight), offsets = _mm512_set1_epi16(128);
  const __m512i low_byte = _mm512_set1_epi16(0xff);
  for (int i = 0; i < count; i += 32) {
    const __m512i above = load_pairs(upper + 2 * i, count - i);
    const __m512i below = load_pairs(lower + 2 * i, count - i);
    _mm512_store_si512(u_out + i, mix(_mm512_and_si512(above, low_byte),
                                      _mm512_and_si512(below, low_byte), weights, offsets));
    _mm512_store_si512(v_out + i, mix(_mm512_srli_epi16(above, 8), _mm512_srli_epi16(below, 8),
                                      weights, offsets));
  }
  u_out[count] = u_out[count - 1];
  v_out[count] = v_out[count - 1];
}

inline __m512i blend_pair(__m512i left, __m512i right, __m512i weight) {
  return _mm512_add_epi16(left, _mm512_mulhrs_epi16(_mm512_sub_epi16(right, left), weight));
}

template <Reach reach>
inline __m512i sample(const int16_t* row, const ColumnTables& columns, int group) {
  const PermuteGroup& entry = columns.permute[group];
  const __m512i weight = _mm512_load_si512(entry.weight);
  const __m512i left_index = _mm512_load_si512(entry.index);
  const __m512i right_index = _mm512_add_epi16(left_index, _mm512_set1_epi16(1));
  const int16_t* window = row + entry.base;
  if constexpr (reach == Reach::kAnywhere) {
    const int32_t* first = columns.first + group * kPermuteOutputs;
    // Each gathered word pair is (left, right); the permutes split and sort them as unpacking needs.
    const __m512i low = _mm512_i32gather_epi32(_mm512_loadu_si512(first), row, 2);
    const __m512i high = _mm512_i32gather_epi32(_mm512_loadu_si512(first + 16), row, 2);
    const __m512i lefts = _mm512_set_epi16(
        62, 60, 58, 56, 30, 28, 26, 24, 54, 52, 50, 48, 22, 20, 18, 16, 46, 44, 42, 40, 14, 12, 10,
        8, 38, 36, 34, 32, 6, 4, 2, 0);
    const __m512i rights = _mm512_add_epi16(lefts, _mm512_set1_epi16(1));
    return blend_pair(_mm512_permutex2var_epi16(low, lefts, high),
                      _mm512_permutex2var_epi16(low, rights, high), weight);
  } else {
    const __m512i w0 = _mm512_loadu_si512(window), w1 = _mm512_loadu_si512(window + 32);
    __m512i left = _mm512_permutex2var_epi16(w0, left_index, w1);
    __m512i right = _mm512_permutex2var_epi16(w0, right_index, w1);
    if constexpr (reach == Reach::kFar) {
      const __m512i w2 = _mm512_loadu_si512(window + 64), w3 = _mm512_loadu_si512(window + 96);
      const __m512i last = _mm512_set1_epi16(63);
      left = _mm512_mask_blend_epi16(_mm512_cmpgt_epi16_mask(left_index, last), left,
                                     _mm512_permutex2var_epi16(w2, left_index, w3));
      right = _mm512_mask_blend_epi16(_mm512_cmpgt_epi16_mask(right_index, last), right,
                                      _mm512_permutex2var_epi16(w2, right_index, w3));
    }
    return blend_pair(left, right, weight);
  }
}

inline void store(__m512 low, __m512 high, float* out) {
  _mm512_storeu_ps(out, low);
  _mm512_storeu_ps(out + 16, high);
}

inline void store(__m512 low, __m512 high, Half* out) {
  auto* bits = reinterpret_cast<uint16_t*>(out);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(bits),
                      _mm512_cvtps_ph(low, _MM_FROUND_TO_NEAREST_INT));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(bits + 16),
                      _mm512_cvtps_ph(high, _MM_FROUND_TO_NEAREST_INT));
}

template <typename Out>
inline void emit(__m512i level, __m512 scale, __m512 offset, Out* out) {
  const __m512i zero = _mm512_setzero_si512();
  level = _mm512_max_epi16(_mm512_min_epi16(level, _mm512_set1_epi16(255 * 64)), zero);
  const __m512 low = _mm512_cvtepi32_ps(_mm512_unpacklo_epi16(level, zero));
  const __m512 high = _mm512_cvtepi32_ps(_mm512_unpackhi_epi16(level, zero));
  store(_mm512_fmadd_ps(low, scale, offset), _mm512_fmadd_ps(high, scale, offset), out);
}

template <typename Out>
struct Planes {
  Out *red, *green, *blue;
};

template <Reach luma_reach, Reach chroma_reach, typename Out>
void convert_row(const YuvToRgbTables& t, const MixedRow& row, Planes<Out> out) {
  const __m512i luma = _mm512_set1_epi16(t.colour.luma), red_v = _mm512_set1_epi16(t.colour.red_v);
  const __m512i green_u = _mm512_set1_epi16(t.colour.green_u);
  const __m512i green_v = _mm512_set1_epi16(t.colour.green_v);
  const __m512i blue_u = _mm512_set1_epi16(t.colour.blue_u);
  const __m512 scale = _mm512_set1_ps(t.scale), offset = _mm512_set1_ps(t.offset);
  const auto convert_group = [&](int group, Planes<Out> to) {
    const __m512i y =
        _mm512_mulhrs_epi16(sample<luma_reach>(row.y, t.luma_columns, group), luma);
    const __m512i u = sample<chroma_reach>(row.u, t.chroma_columns, group);
    const __m512i v = sample<chroma_reach>(row.v, t.chroma_columns, group);
    emit(_mm512_adds_epi16(y, _mm512_mulhrs_epi16(v, red_v)), scale, offset, to.red);
    const __m512i green = _mm512_add_epi16(_mm512_mulhrs_epi16(u, green_u),
                                           _mm512_mulhrs_epi16(v, green_v));
    emit(_mm512_subs_epi16(y, green), scale, offset, to.green);
    const __m512i blue = _mm512_adds_epi16(_mm512_adds_epi16(y, u), _mm512_mulhrs_epi16(u, blue_u));
    emit(blue, scale, offset, to.blue);
  };
  const int whole = t.width / kPermuteOutputs, rest = t.width % kPermuteOutputs;
  for (int group = 0; group < whole; ++group) {
    const int x = group * kPermuteOutputs;
    convert_group(group, {out.red + x, out.green + x, out.blue + x});
  }
  if (rest == 0) return;
  alignas(64) Out room[3][kPermuteOutputs];
  convert_group(whole, {room[0], room[1], room[2]});
  const int x = whole * kPermuteOutputs;
  const size_t rest_bytes = rest * sizeof(Out);
  __builtin_memcpy(out.red + x, room[0], rest_bytes);
  __builtin_memcpy(out.green + x, room[1], rest_bytes);
  __builtin_memcpy(out.blue + x, room[2], rest_bytes);
}

template <typename Out>
void convert(const YuvToRgbTables& t, const YuvView& source, Out* out) {
  MixedRow row;
  const ptrdiff_t plane = ptrdiff_t{t.width} * t.height;
  const ColumnSpan luma = t.luma_columns.span, chroma = t.chroma_columns.span;
  for (int line = 0; line < t.height; ++line) {
    prefetch_below(t, source, line);
    const RowTap y = t.luma_rows[line], c = t.chroma_rows[line];
    const uint8_t* y_plane = source.y + luma.first;
    mix_row(y_plane + y.upper * source.y_pitch_bytes, y_plane + y.lower * source.y_pitch_bytes,
            luma.count, y.weight, t.luma_offset, row.y);
    const ptrdiff_t u_pitch = source.u_pitch_bytes, v_pitch = source.v_pitch_bytes;
    if (source.v == nullptr) {
      const uint8_t* uv = source.u + 2 * chroma.first;
      mix_interleaved_row(uv + c.upper * u_pitch, uv + c.lower * u_pitch, chroma.count, c.weight,
                          row.u, row.v);
    } else {
      const uint8_t *u = source.u + chroma.first, *v = source.v + chroma.first;
      mix_row(u + c.upper * u_pitch, u + c.lower * u_pitch, chroma.count, c.weight, 128, row.u);
      mix_row(v + c.upper * v_pitch, v + c.lower * v_pitch, chroma.count, c.weight, 128, row.v);
    }
    Out* red = out + ptrdiff_t{line} * t.width;
    const Planes<Out> planes{red, red + plane, red + 2 * plane};
    switch (t.reach) {
      case Reach::kNear:
        convert_row<Reach::kNear, Reach::kNear>(t, row, planes);
        break;
      case Reach::kFar:
        convert_row<Reach::kFar, Reach::kNear>(t, row, planes);
        break;
      case Reach::kAnywhere:
        convert_row<Reach::kAnywhere, Reach::kAnywhere>(t, row, planes);
        break;
    }
  }
}

}  // namespace

void yuv_to_rgb_avx512(const YuvToRgbTables& tables, const YuvView& source, float* out) noexcept {
  convert(tables, source, out);
}

void yuv_to_rgb_avx512(const YuvToRgbTables& tables, const YuvView& source, Half* out) noexcept {
  convert(tables, source, out);
}

}  // namespace lpnode::media
