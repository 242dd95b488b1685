// 32 outputs at a time. Samples are picked by word permutes out of two (or four) registers; the order
// of the tables makes the later unpacking to 32 bits come out sorted.
#include <immintrin.h>

#include "media/yuv_to_rgb_vectors.h"

namespace lpnode::media {
namespace {

struct Avx512 {
  using Words = __m512i;
  using Floats = __m512;
  static constexpr int kOutputs = kPermuteOutputs;

  static Words words_of(int16_t value) { return _mm512_set1_epi16(value); }
  static Floats floats_of(float value) { return _mm512_set1_ps(value); }
  static Words add(Words a, Words b) { return _mm512_add_epi16(a, b); }
  static Words add_saturated(Words a, Words b) { return _mm512_adds_epi16(a, b); }
  static Words subtract(Words a, Words b) { return _mm512_sub_epi16(a, b); }
  static Words subtract_saturated(Words a, Words b) { return _mm512_subs_epi16(a, b); }
  static Words multiply_q15(Words a, Words b) { return _mm512_mulhrs_epi16(a, b); }
  template <int bits>
  static Words shifted_left(Words a) {
    return _mm512_slli_epi16(a, bits);
  }
  static Words clamped(Words a, Words lowest, Words highest) {
    return _mm512_max_epi16(_mm512_min_epi16(a, highest), lowest);
  }

  static __mmask32 mask_of(int count) { return (1u << count) - 1; }
  static Words load_bytes(const uint8_t* at) {
    return _mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)));
  }
  static Words load_bytes(const uint8_t* at, int count) {
    return _mm512_cvtepu8_epi16(_mm256_maskz_loadu_epi8(mask_of(count), at));
  }
  static Words load_pairs(const uint8_t* at) { return _mm512_loadu_si512(at); }
  static Words load_pairs(const uint8_t* at, int count) {
    return _mm512_maskz_loadu_epi16(mask_of(count), at);
  }
  static Words low_bytes(Words a) { return _mm512_and_si512(a, _mm512_set1_epi16(0xff)); }
  static Words high_bytes(Words a) { return _mm512_srli_epi16(a, 8); }
  static void store_words(int16_t* at, Words words) { _mm512_store_si512(at, words); }

  static Words blend_pair(Words left, Words right, Words weight) {
    return add(left, multiply_q15(subtract(right, left), weight));
  }

  template <Reach reach>
  static Words sample(const int16_t* row, const ColumnTables& columns, int group) {
    const PermuteGroup& entry = columns.permute[group];
    const __m512i weight = _mm512_load_si512(entry.weight);
    if constexpr (reach == Reach::kAnywhere) {
      const int32_t* first = columns.first + group * kOutputs;
      // Each gathered word pair is (left, right); the permutes split and sort them as unpacking needs.
      const __m512i low = _mm512_i32gather_epi32(_mm512_loadu_si512(first), row, 2);
      const __m512i high = _mm512_i32gather_epi32(_mm512_loadu_si512(first + 16), row, 2);
      const __m512i lefts = _mm512_set_epi16(
          62, 60, 58, 56, 30, 28, 26, 24, 54, 52, 50, 48, 22, 20, 18, 16, 46, 44, 42, 40, 14, 12,
          10, 8, 38, 36, 34, 32, 6, 4, 2, 0);
      const __m512i rights = _mm512_add_epi16(lefts, _mm512_set1_epi16(1));
      return blend_pair(_mm512_permutex2var_epi16(low, lefts, high),
                        _mm512_permutex2var_epi16(low, rights, high), weight);
    } else {
      const __m512i left_index = _mm512_load_si512(entry.index);
      const __m512i right_index = _mm512_add_epi16(left_index, _mm512_set1_epi16(1));
      const int16_t* window = row + entry.base;
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

  // Of levels that are not negative.
  static Floats lower(Words levels) {
    return _mm512_cvtepi32_ps(_mm512_unpacklo_epi16(levels, _mm512_setzero_si512()));
  }
  static Floats upper(Words levels) {
    return _mm512_cvtepi32_ps(_mm512_unpackhi_epi16(levels, _mm512_setzero_si512()));
  }
  static Floats multiply_add(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
  static void store(Floats low, Floats high, float* out) {
    _mm512_storeu_ps(out, low);
    _mm512_storeu_ps(out + 16, high);
  }
  static void store(Floats low, Floats high, Half* out) {
    auto* bits = reinterpret_cast<__m256i*>(out);
    _mm256_storeu_si256(bits, _mm512_cvtps_ph(low, _MM_FROUND_TO_NEAREST_INT));
    _mm256_storeu_si256(bits + 1, _mm512_cvtps_ph(high, _MM_FROUND_TO_NEAREST_INT));
  }
};

}  // namespace

void yuv_to_rgb_avx512(const YuvToRgbTables& tables, const YuvView& source, float* out) noexcept {
  convert<Avx512>(tables, source, out);
}

void yuv_to_rgb_avx512(const YuvToRgbTables& tables, const YuvView& source, Half* out) noexcept {
  convert<Avx512>(tables, source, out);
}

}  // namespace lpnode::media
