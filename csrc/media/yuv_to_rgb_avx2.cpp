// 16 outputs at a time. Samples are picked as pairs (left, right) by byte shuffles, four from each
// window of 8 columns, or by gathering where a window does not reach.
#include <immintrin.h>

#include "media/yuv_to_rgb_rows.h"

namespace lpnode::media {
namespace {

inline __m256i mix(__m256i upper, __m256i lower, __m256i weight, __m256i offset) {
  const __m256i change = _mm256_slli_epi16(_mm256_sub_epi16(lower, upper), 7);
  const __m256i start = _mm256_slli_epi16(_mm256_sub_epi16(upper, offset), 7);
  return _mm256_add_epi16(start, _mm256_mulhrs_epi16(change, weight));
}

inline int16_t mix_one(int upper, int lower, int weight, int offset) {
  return static_cast<int16_t>((upper - offset) * 128 +
                              (((lower - upper) * 128 * weight + 0x4000) >> 15));
}

inline __m256i load_bytes(const uint8_t* at) {
  return _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
}

inline void store_words(int16_t* at, __m256i words) {
  _mm256_store_si256(reinterpret_cast<__m256i*>(at), words);
}

void mix_row(const uint8_t* upper, const uint8_t* lower, int count, int16_t weight, int16_t offset,
             int16_t* out) {
  const __m256i weights = _mm256_set1_epi16(weight), offsets = _mm256_set1_epi16(offset);
  int i = 0;
  for (; i + 16 <= count; i += 16)
    store_words(out + i, mix(load_bytes(upper + i), load_bytes(lower + i), weights, offsets));
  for (; i < count; ++i) out[i] = mix_one(upper[i], lower[i], weight, offset);
  out[count] = out[count - 1];
}

inline __m256i load_pairs(const uint8_t* at) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
}

void mix_interleaved_row(const uint8_t* upper, const uint8_t* lower, int count, int16_t weight,
                         int16_t* u_out, int16_t* v_out) {
  const __m256i weights = _mm256_set1_epi16(weight), offsets = _mm256_set1_epi16(128);
  const __m256i low_byte = _mm256_set1_epi16(0xff);
  int i = 0;
  for (; i + 16 <= count; i += 16) {
    const __m256i above = load_pairs(upper + 2 * i), below = load_pairs(lower + 2 * i);
    store_words(u_out + i, mix(_mm256_and_si256(above, low_byte), _mm256_and_si256(below, low_byte),
                               weights, offsets));
    store_words(v_out + i,
                mix(_mm256_srli_epi16(above, 8), _mm256_srli_epi16(below, 8), weights, offsets));
  }
  for (; i < count; ++i) {
    u_out[i] = mix_one(upper[2 * i], lower[2 * i], weight, 128);
    v_out[i] = mix_one(upper[2 * i + 1], lower[2 * i + 1], weight, 128);
  }
  u_out[count] = u_out[count - 1];
  v_out[count] = v_out[count - 1];
}

inline __m256i two_windows(const int16_t* low, const int16_t* high) {
  const __m128i first = _mm_loadu_si128(reinterpret_cast<const __m128i*>(low));
  const __m128i second = _mm_loadu_si128(reinterpret_cast<const __m128i*>(high));
  return _mm256_inserti128_si256(_mm256_castsi128_si256(first), second, 1);
}

// Outputs 0..3 and 8..11 come back in the low lane, 4..7 and 12..15 in the high one, so that
// unpacklo and unpackhi give 0..7 and 8..15.
template <Reach reach>
inline __m256i sample(const int16_t* row, const ColumnTables& columns, int group) {
  const ShuffleGroup& entry = columns.shuffle[group];
  const auto* weights = reinterpret_cast<const __m256i*>(entry.weights);
  __m256i near_pairs, far_pairs;
  if constexpr (reach == Reach::kAnywhere) {
    const auto* first = reinterpret_cast<const __m256i*>(columns.first + group * kShuffleOutputs);
    const auto* words = reinterpret_cast<const int*>(row);
    near_pairs = _mm256_i32gather_epi32(words, _mm256_loadu_si256(first), 2);
    far_pairs = _mm256_i32gather_epi32(words, _mm256_loadu_si256(first + 1), 2);
  } else {
    const auto* shuffle = reinterpret_cast<const __m256i*>(entry.shuffle);
    near_pairs = _mm256_shuffle_epi8(two_windows(row + entry.base[0], row + entry.base[1]),
                                     _mm256_load_si256(shuffle));
    far_pairs = _mm256_shuffle_epi8(two_windows(row + entry.base[2], row + entry.base[3]),
                                    _mm256_load_si256(shuffle + 1));
  }
  const __m256i half = _mm256_set1_epi32(1 << 13);
  const __m256i near_sum = _mm256_madd_epi16(near_pairs, _mm256_load_si256(weights));
  const __m256i far_sum = _mm256_madd_epi16(far_pairs, _mm256_load_si256(weights + 1));
  return _mm256_packs_epi32(_mm256_srai_epi32(_mm256_add_epi32(near_sum, half), 14),
                            _mm256_srai_epi32(_mm256_add_epi32(far_sum, half), 14));
}

inline void store(__m256 low, __m256 high, float* out) {
  _mm256_storeu_ps(out, low);
  _mm256_storeu_ps(out + 8, high);
}

inline void store(__m256 low, __m256 high, Half* out) {
  auto* bits = reinterpret_cast<__m128i*>(out);
  _mm_storeu_si128(bits, _mm256_cvtps_ph(low, _MM_FROUND_TO_NEAREST_INT));
  _mm_storeu_si128(bits + 1, _mm256_cvtps_ph(high, _MM_FROUND_TO_NEAREST_INT));
}

template <typename Out>
inline void emit(__m256i level, __m256 scale, __m256 offset, Out* out) {
  const __m256i zero = _mm256_setzero_si256();
  level = _mm256_max_epi16(_mm256_min_epi16(level, _mm256_set1_epi16(255 * 64)), zero);
  const __m256 low = _mm256_cvtepi32_ps(_mm256_unpacklo_epi16(level, zero));
  const __m256 high = _mm256_cvtepi32_ps(_mm256_unpackhi_epi16(level, zero));
  store(_mm256_fmadd_ps(low, scale, offset), _mm256_fmadd_ps(high, scale, offset), out);
}

template <typename Out>
struct Planes {
  Out *red, *green, *blue;
};

template <Reach luma_reach, Reach chroma_reach, typename Out>
void convert_row(const YuvToRgbTables& t, const MixedRow& row, Planes<Out> out) {
  const __m256i luma = _mm256_set1_epi16(t.colour.luma), red_v = _mm256_set1_epi16(t.colour.red_v);
  const __m256i green_u = _mm256_set1_epi16(t.colour.green_u);
  const __m256i green_v = _mm256_set1_epi16(t.colour.green_v);
  const __m256i blue_u = _mm256_set1_epi16(t.colour.blue_u);
  const __m256 scale = _mm256_set1_ps(t.scale), offset = _mm256_set1_ps(t.offset);
  const auto convert_group = [&](int group, Planes<Out> to) {
    const __m256i y =
        _mm256_mulhrs_epi16(sample<luma_reach>(row.y, t.luma_columns, group), luma);
    const __m256i u = sample<chroma_reach>(row.u, t.chroma_columns, group);
    const __m256i v = sample<chroma_reach>(row.v, t.chroma_columns, group);
    emit(_mm256_adds_epi16(y, _mm256_mulhrs_epi16(v, red_v)), scale, offset, to.red);
    const __m256i green = _mm256_add_epi16(_mm256_mulhrs_epi16(u, green_u),
                                           _mm256_mulhrs_epi16(v, green_v));
    emit(_mm256_subs_epi16(y, green), scale, offset, to.green);
    const __m256i blue = _mm256_adds_epi16(_mm256_adds_epi16(y, u), _mm256_mulhrs_epi16(u, blue_u));
    emit(blue, scale, offset, to.blue);
  };
  const int whole = t.width / kShuffleOutputs, rest = t.width % kShuffleOutputs;
  for (int group = 0; group < whole; ++group) {
    const int x = group * kShuffleOutputs;
    convert_group(group, {out.red + x, out.green + x, out.blue + x});
  }
  if (rest == 0) return;
  alignas(32) Out room[3][kShuffleOutputs];
  convert_group(whole, {room[0], room[1], room[2]});
  const int x = whole * kShuffleOutputs;
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
        convert_row<Reach::kAnywhere, Reach::kNear>(t, row, planes);
        break;
      case Reach::kAnywhere:
        convert_row<Reach::kAnywhere, Reach::kAnywhere>(t, row, planes);
        break;
    }
  }
}

}  // namespace

void yuv_to_rgb_avx2(const YuvToRgbTables& tables, const YuvView& source, float* out) noexcept {
  convert(tables, source, out);
}

void yuv_to_rgb_avx2(const YuvToRgbTables& tables, const YuvView& source, Half* out) noexcept {
  convert(tables, source, out);
}

}  // namespace lpnode::media
