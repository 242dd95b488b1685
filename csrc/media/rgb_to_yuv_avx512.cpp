#include <immintrin.h>

#include "media/rgb_to_yuv_rows.h"

namespace lpnode::media {
namespace {

inline __m512 load(const float* at) { return _mm512_loadu_ps(at); }
inline __m512 load(const Half* at) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)));
}

struct Colour {
  __m512 red, green, blue;
};

class Avx512Block {
 public:
  static constexpr int kColumns = 32;

  explicit Avx512Block(const RgbToYuvCoefficients& k)
      : low_(_mm512_set1_ps(k.low)), high_(_mm512_set1_ps(k.high)),
        y_{_mm512_set1_ps(k.y_r), _mm512_set1_ps(k.y_g), _mm512_set1_ps(k.y_b)},
        u_{_mm512_set1_ps(k.u_r), _mm512_set1_ps(k.u_g), _mm512_set1_ps(k.u_b)},
        v_{_mm512_set1_ps(k.v_r), _mm512_set1_ps(k.v_g), _mm512_set1_ps(k.v_b)},
        y_offset_(_mm512_set1_ps(k.y_offset)), u_offset_(_mm512_set1_ps(k.u_offset)),
        v_offset_(_mm512_set1_ps(k.v_offset)) {}

  template <typename In>
  void convert(const RowPair<In>& in, int x, const YuvRows& out) const {
    const Colour left = convert_luma(in, x, out);
    const Colour right = convert_luma(in, x + 16, out);
    const Colour sums{sum_pairs(left.red, right.red), sum_pairs(left.green, right.green),
                      sum_pairs(left.blue, right.blue)};
    store(out.u + x / 2, weigh(sums, u_, u_offset_));
    store(out.v + x / 2, weigh(sums, v_, v_offset_));
  }

 private:
  // max gives its second operand for NaN, so NaN ends at the low end.
  template <typename In>
  __m512 load_clamped(const In* at) const {
    return _mm512_min_ps(_mm512_max_ps(load(at), low_), high_);
  }

  static __m512 weigh(const Colour& c, const Colour& k, __m512 offset) {
    return _mm512_fmadd_ps(
        c.red, k.red, _mm512_fmadd_ps(c.green, k.green, _mm512_fmadd_ps(c.blue, k.blue, offset)));
  }

  static void store(uint8_t* at, __m512 levels) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(at),
                     _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(levels)));
  }

  static __m512 sum_pairs(__m512 left, __m512 right) {
    const __m512i evens = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    const __m512i odds = _mm512_set_epi32(31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
    return _mm512_add_ps(_mm512_permutex2var_ps(left, evens, right),
                         _mm512_permutex2var_ps(left, odds, right));
  }

  // Writes the luma of 16 columns of both rows and returns the columns' sums.
  template <typename In>
  Colour convert_luma(const RowPair<In>& in, int x, const YuvRows& out) const {
    const Colour upper{load_clamped(in.red[0] + x), load_clamped(in.green[0] + x),
                       load_clamped(in.blue[0] + x)};
    const Colour lower{load_clamped(in.red[1] + x), load_clamped(in.green[1] + x),
                       load_clamped(in.blue[1] + x)};
    store(out.y[0] + x, weigh(upper, y_, y_offset_));
    store(out.y[1] + x, weigh(lower, y_, y_offset_));
    return {_mm512_add_ps(upper.red, lower.red), _mm512_add_ps(upper.green, lower.green),
            _mm512_add_ps(upper.blue, lower.blue)};
  }

  __m512 low_, high_;
  Colour y_, u_, v_;
  __m512 y_offset_, u_offset_, v_offset_;
};

}  // namespace

void rgb_to_yuv_avx512(const RgbToYuvSpec& spec, const RgbToYuvCoefficients& k, const float* rgb,
                       const MutableYuvView& out) noexcept {
  convert_row_pairs(Avx512Block(k), spec, rgb, out);
}

void rgb_to_yuv_avx512(const RgbToYuvSpec& spec, const RgbToYuvCoefficients& k, const Half* rgb,
                       const MutableYuvView& out) noexcept {
  convert_row_pairs(Avx512Block(k), spec, rgb, out);
}

}  // namespace lpnode::media
