#include <immintrin.h>

#include "media/rgb_to_yuv_rows.h"

namespace lpnode::media {
namespace {

inline __m256 load(const float* at) { return _mm256_loadu_ps(at); }
inline __m256 load(const Half* at) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
}

struct Colour {
  __m256 red, green, blue;
};

class Avx2Block {
 public:
  static constexpr int kColumns = 16;

  explicit Avx2Block(const RgbToYuvCoefficients& k)
      : low_(_mm256_set1_ps(k.low)), high_(_mm256_set1_ps(k.high)),
        y_{_mm256_set1_ps(k.y_r), _mm256_set1_ps(k.y_g), _mm256_set1_ps(k.y_b)},
        u_{_mm256_set1_ps(k.u_r), _mm256_set1_ps(k.u_g), _mm256_set1_ps(k.u_b)},
        v_{_mm256_set1_ps(k.v_r), _mm256_set1_ps(k.v_g), _mm256_set1_ps(k.v_b)},
        y_offset_(_mm256_set1_ps(k.y_offset)), u_offset_(_mm256_set1_ps(k.u_offset)),
        v_offset_(_mm256_set1_ps(k.v_offset)) {}

  template <typename In>
  void convert(const RowPair<In>& in, int x, const YuvRows& out) const {
    const Colour left = convert_luma(in, x, out);
    const Colour right = convert_luma(in, x + 8, out);
    const Colour sums{sum_pairs(left.red, right.red), sum_pairs(left.green, right.green),
                      sum_pairs(left.blue, right.blue)};
    store(out.u + x / 2, weigh(sums, u_, u_offset_));
    store(out.v + x / 2, weigh(sums, v_, v_offset_));
  }

 private:
  // max gives its second operand for NaN, so NaN ends at the low end.
  template <typename In>
  __m256 load_clamped(const In* at) const {
    return _mm256_min_ps(_mm256_max_ps(load(at), low_), high_);
  }

  static __m256 weigh(const Colour& c, const Colour& k, __m256 offset) {
    return _mm256_fmadd_ps(
        c.red, k.red, _mm256_fmadd_ps(c.green, k.green, _mm256_fmadd_ps(c.blue, k.blue, offset)));
  }

  static void store(uint8_t* at, __m256 levels) {
    const __m256i whole = _mm256_cvtps_epi32(levels);
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(whole),
                                          _mm256_extracti128_si256(whole, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(at), _mm_packus_epi16(words, words));
  }

  // hadd works within 128-bit lanes; the permute sorts the four quarters.
  static __m256 sum_pairs(__m256 left, __m256 right) {
    const __m256d sums = _mm256_castps_pd(_mm256_hadd_ps(left, right));
    return _mm256_castpd_ps(_mm256_permute4x64_pd(sums, 0b11'01'10'00));
  }

  // Writes the luma of 8 columns of both rows and returns the columns' sums.
  template <typename In>
  Colour convert_luma(const RowPair<In>& in, int x, const YuvRows& out) const {
    const Colour upper{load_clamped(in.red[0] + x), load_clamped(in.green[0] + x),
                       load_clamped(in.blue[0] + x)};
    const Colour lower{load_clamped(in.red[1] + x), load_clamped(in.green[1] + x),
                       load_clamped(in.blue[1] + x)};
    store(out.y[0] + x, weigh(upper, y_, y_offset_));
    store(out.y[1] + x, weigh(lower, y_, y_offset_));
    return {_mm256_add_ps(upper.red, lower.red), _mm256_add_ps(upper.green, lower.green),
            _mm256_add_ps(upper.blue, lower.blue)};
  }

  __m256 low_, high_;
  Colour y_, u_, v_;
  __m256 y_offset_, u_offset_, v_offset_;
};

}  // namespace

void rgb_to_yuv_avx2(const RgbToYuvSpec& spec, const RgbToYuvCoefficients& k, const float* rgb,
                     const MutableYuvView& out) noexcept {
  convert_row_pairs(Avx2Block(k), spec, rgb, out);
}

void rgb_to_yuv_avx2(const RgbToYuvSpec& spec, const RgbToYuvCoefficients& k, const Half* rgb,
                     const MutableYuvView& out) noexcept {
  convert_row_pairs(Avx2Block(k), spec, rgb, out);
}

}  // namespace lpnode::media
