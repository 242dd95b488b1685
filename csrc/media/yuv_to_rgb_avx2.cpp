// 16 outputs at a time. Samples are picked as pairs (left, right) by byte shuffles, four from each
// window of 8 columns, or by gathering where a window does not reach.
#include <immintrin.h>

#include "media/yuv_to_rgb_vectors.h"

namespace lpnode::media {
namespace {

struct Avx2 {
  using Words = __m256i;
  using Floats = __m256;
  static constexpr int kOutputs = kShuffleOutputs;

  static Words words_of(int16_t value) { return _mm256_set1_epi16(value); }
  static Floats floats_of(float value) { return _mm256_set1_ps(value); }
  static Words add(Words a, Words b) { return _mm256_add_epi16(a, b); }
  static Words add_saturated(Words a, Words b) { return _mm256_adds_epi16(a, b); }
  static Words subtract(Words a, Words b) { return _mm256_sub_epi16(a, b); }
  static Words subtract_saturated(Words a, Words b) { return _mm256_subs_epi16(a, b); }
  static Words multiply_q15(Words a, Words b) { return _mm256_mulhrs_epi16(a, b); }
  template <int bits>
  static Words shifted_left(Words a) {
    return _mm256_slli_epi16(a, bits);
  }
  static Words clamped(Words a, Words lowest, Words highest) {
    return _mm256_max_epi16(_mm256_min_epi16(a, highest), lowest);
  }

  static Words load_bytes(const uint8_t* at) {
    return _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
  }
  static Words load_bytes(const uint8_t* at, int count) {
    uint8_t room[kOutputs] = {};
    __builtin_memcpy(room, at, count);
    return load_bytes(room);
  }
  static Words load_pairs(const uint8_t* at) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
  }
  static Words load_pairs(const uint8_t* at, int count) {
    uint8_t room[2 * kOutputs] = {};
    __builtin_memcpy(room, at, 2 * count);
    return load_pairs(room);
  }
  static Words low_bytes(Words a) { return _mm256_and_si256(a, _mm256_set1_epi16(0xff)); }
  static Words high_bytes(Words a) { return _mm256_srli_epi16(a, 8); }
  static void store_words(int16_t* at, Words words) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(at), words);
  }

  static Words two_windows(const int16_t* low, const int16_t* high) {
    const __m128i first = _mm_loadu_si128(reinterpret_cast<const __m128i*>(low));
    const __m128i second = _mm_loadu_si128(reinterpret_cast<const __m128i*>(high));
    return _mm256_inserti128_si256(_mm256_castsi128_si256(first), second, 1);
  }

  // Outputs 0..3 and 8..11 come back in the low lane, 4..7 and 12..15 in the high one, so that
  // unpacklo and unpackhi give 0..7 and 8..15.
  template <Reach reach>
  static Words sample(const int16_t* row, const ColumnTables& columns, int group) {
    const ShuffleGroup& entry = columns.shuffle[group];
    const auto* weights = reinterpret_cast<const __m256i*>(entry.weights);
    __m256i near_pairs, far_pairs;
    if constexpr (reach == Reach::kNear) {
      const auto* shuffle = reinterpret_cast<const __m256i*>(entry.shuffle);
      near_pairs = _mm256_shuffle_epi8(two_windows(row + entry.base[0], row + entry.base[1]),
                                       _mm256_load_si256(shuffle));
      far_pairs = _mm256_shuffle_epi8(two_windows(row + entry.base[2], row + entry.base[3]),
                                      _mm256_load_si256(shuffle + 1));
    } else {
      const auto* first = reinterpret_cast<const __m256i*>(columns.first + group * kOutputs);
      const auto* words = reinterpret_cast<const int*>(row);
      near_pairs = _mm256_i32gather_epi32(words, _mm256_loadu_si256(first), 2);
      far_pairs = _mm256_i32gather_epi32(words, _mm256_loadu_si256(first + 1), 2);
    }
    const __m256i half = _mm256_set1_epi32(1 << 13);
    const __m256i near_sum = _mm256_madd_epi16(near_pairs, _mm256_load_si256(weights));
    const __m256i far_sum = _mm256_madd_epi16(far_pairs, _mm256_load_si256(weights + 1));
    return _mm256_packs_epi32(_mm256_srai_epi32(_mm256_add_epi32(near_sum, half), 14),
                              _mm256_srai_epi32(_mm256_add_epi32(far_sum, half), 14));
  }

  // Of levels that are not negative.
  static Floats lower(Words levels) {
    return _mm256_cvtepi32_ps(_mm256_unpacklo_epi16(levels, _mm256_setzero_si256()));
  }
  static Floats upper(Words levels) {
    return _mm256_cvtepi32_ps(_mm256_unpackhi_epi16(levels, _mm256_setzero_si256()));
  }
  static Floats multiply_add(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
  static void store(Floats low, Floats high, float* out) {
    _mm256_storeu_ps(out, low);
    _mm256_storeu_ps(out + 8, high);
  }
  static void store(Floats low, Floats high, Half* out) {
    auto* bits = reinterpret_cast<__m128i*>(out);
    _mm_storeu_si128(bits, _mm256_cvtps_ph(low, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128(bits + 1, _mm256_cvtps_ph(high, _MM_FROUND_TO_NEAREST_INT));
  }
};

}  // namespace

void yuv_to_rgb_avx2(const YuvToRgbTables& tables, const YuvView& source, float* out) noexcept {
  convert<Avx2>(tables, source, out);
}

void yuv_to_rgb_avx2(const YuvToRgbTables& tables, const YuvView& source, Half* out) noexcept {
  convert<Avx2>(tables, source, out);
}

}  // namespace lpnode::media
