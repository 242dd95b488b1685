#include <immintrin.h>

#include "media/rgb_to_yuv_vectors.h"

namespace lpnode::media {
namespace {

struct Avx2 {
  using Floats = __m256;
  static constexpr int kFloats = 8;

  static Floats floats_of(float value) { return _mm256_set1_ps(value); }
  static Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
  static Floats multiply_add(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
  // max gives its second operand for NaN.
  static Floats clamped(Floats a, Floats lowest, Floats highest) {
    return _mm256_min_ps(_mm256_max_ps(a, lowest), highest);
  }
  // hadd works within 128-bit lanes; the permute sorts the four quarters.
  static Floats sum_pairs(Floats left, Floats right) {
    const __m256d sums = _mm256_castps_pd(_mm256_hadd_ps(left, right));
    return _mm256_castpd_ps(_mm256_permute4x64_pd(sums, 0b11'01'10'00));
  }
  static Floats load(const float* at) { return _mm256_loadu_ps(at); }
  static Floats load(const Half* at) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
  }
  static void store_bytes(uint8_t* at, Floats levels) {
    const __m256i whole = _mm256_cvtps_epi32(levels);
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(whole),
                                          _mm256_extracti128_si256(whole, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(at), _mm_packus_epi16(words, words));
  }
};

}  // namespace

void rgb_to_yuv_avx2(const RgbToYuvSpec& spec, const RgbToYuvCoefficients& k, const float* rgb,
                     const MutableYuvView& out) noexcept {
  convert_row_pairs(VectorBlock<Avx2>(k), spec, rgb, out);
}

void rgb_to_yuv_avx2(const RgbToYuvSpec& spec, const RgbToYuvCoefficients& k, const Half* rgb,
                     const MutableYuvView& out) noexcept {
  convert_row_pairs(VectorBlock<Avx2>(k), spec, rgb, out);
}

}  // namespace lpnode::media
