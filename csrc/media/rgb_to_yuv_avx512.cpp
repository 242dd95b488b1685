#include <immintrin.h>

#include "media/rgb_to_yuv_vectors.h"

namespace lpnode::media {
namespace {

struct Avx512 {
  using Floats = __m512;
  static constexpr int kFloats = 16;

  static Floats floats_of(float value) { return _mm512_set1_ps(value); }
  static Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
  static Floats multiply_add(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
  // max gives its second operand for NaN.
  static Floats clamped(Floats a, Floats lowest, Floats highest) {
    return _mm512_min_ps(_mm512_max_ps(a, lowest), highest);
  }
  static Floats sum_pairs(Floats left, Floats right) {
    const __m512i evens = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    const __m512i odds = _mm512_set_epi32(31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
    return _mm512_add_ps(_mm512_permutex2var_ps(left, evens, right),
                         _mm512_permutex2var_ps(left, odds, right));
  }
  static Floats load(const float* at) { return _mm512_loadu_ps(at); }
  static Floats load(const Half* at) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)));
  }
  static void store_bytes(uint8_t* at, Floats levels) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(at),
                     _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(levels)));
  }
};

}  // namespace

void rgb_to_yuv_avx512(const RgbToYuvSpec& spec, const RgbToYuvCoefficients& k, const float* rgb,
                       const MutableYuvView& out) noexcept {
  convert_row_pairs(VectorBlock<Avx512>(k), spec, rgb, out);
}

void rgb_to_yuv_avx512(const RgbToYuvSpec& spec, const RgbToYuvCoefficients& k, const Half* rgb,
                       const MutableYuvView& out) noexcept {
  convert_row_pairs(VectorBlock<Avx512>(k), spec, rgb, out);
}

}  // namespace lpnode::media
