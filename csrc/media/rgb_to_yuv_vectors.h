// rgb_to_yuv with vectors, written over the operations V of one instruction set. Private to the
// including file, as in yuv_to_rgb_vectors.h.
//
// V has the register Floats (kFloats of float), and:
//   floats_of           one value in every place
//   add, multiply_add   a + b; a * b + c
//   clamped             to lowest..highest; NaN ends at the low end
//   sum_pairs           the sums of neighbours in `left`, then those in `right`
//   load                kFloats of float or Half
//   store_bytes         kFloats levels, rounded
#pragma once

#include "media/rgb_to_yuv_rows.h"

namespace lpnode::media {
namespace {

template <typename V>
class VectorBlock {
 public:
  static constexpr int kColumns = 2 * V::kFloats;

  explicit VectorBlock(const RgbToYuvCoefficients& k)
      : low_(V::floats_of(k.low)), high_(V::floats_of(k.high)),
        y_(weights_of(k.y_r, k.y_g, k.y_b, k.y_offset)),
        u_(weights_of(k.u_r, k.u_g, k.u_b, k.u_offset)),
        v_(weights_of(k.v_r, k.v_g, k.v_b, k.v_offset)) {}

  template <typename In>
  void convert(const RowPair<In>& in, int x, const YuvRows& out) const {
    const Colour left = convert_luma(in, x, out);
    const Colour right = convert_luma(in, x + V::kFloats, out);
    const Colour sums{V::sum_pairs(left.red, right.red), V::sum_pairs(left.green, right.green),
                      V::sum_pairs(left.blue, right.blue)};
    V::store_bytes(out.u + x / 2, weigh(sums, u_));
    V::store_bytes(out.v + x / 2, weigh(sums, v_));
  }

 private:
  using Floats = typename V::Floats;

  struct Colour {
    Floats red, green, blue;
  };

  struct Weights {
    Floats red, green, blue, offset;
  };

  static Weights weights_of(float red, float green, float blue, float offset) {
    return {V::floats_of(red), V::floats_of(green), V::floats_of(blue), V::floats_of(offset)};
  }

  static Floats weigh(const Colour& c, const Weights& k) {
    const Floats blue = V::multiply_add(c.blue, k.blue, k.offset);
    return V::multiply_add(c.red, k.red, V::multiply_add(c.green, k.green, blue));
  }

  template <typename In>
  Colour load_clamped(const RowPair<In>& in, int row, int x) const {
    return {V::clamped(V::load(in.red[row] + x), low_, high_),
            V::clamped(V::load(in.green[row] + x), low_, high_),
            V::clamped(V::load(in.blue[row] + x), low_, high_)};
  }

  // Writes the luma of kFloats columns of both rows and returns the columns' sums.
  template <typename In>
  Colour convert_luma(const RowPair<In>& in, int x, const YuvRows& out) const {
    const Colour upper = load_clamped(in, 0, x), lower = load_clamped(in, 1, x);
    V::store_bytes(out.y[0] + x, weigh(upper, y_));
    V::store_bytes(out.y[1] + x, weigh(lower, y_));
    return {V::add(upper.red, lower.red), V::add(upper.green, lower.green),
            V::add(upper.blue, lower.blue)};
  }

  Floats low_, high_;
  Weights y_, u_, v_;
};

}  // namespace
}  // namespace lpnode::media
