// The field of secp256k1, four values side by side with AVX2.
//
// An element is ten limbs of 26 bits in words of 64 (limb 9: 22 bits), which VPMULUDQ multiplies
// pairwise; sums and differences leave the carries to the next product. Bounds, as the largest
// limbs in units of those of p ("size"):
//   multiply, square, load, lanes_from, compact_third, compact_difference: size 1 and a little
//   difference of a and b: 6 and that of a; b may have size 5
//   signed_difference: 6 and that of a; b may have size 4
//   small_difference: 3 and that of a; b may have size 2;  third: 5;  negated: 2
// so that in point_sum.h x has size 5, y 4 and a factor at most 11. Ten products of two factors of
// size 11 stay below 2^63.
#pragma once

#include <immintrin.h>

#include "ticket/field.h"
#include "ticket/signer_table.h"

namespace lpnode::ticket {

struct FieldAvx2 {
  static constexpr size_t kLanes = 4;
  // How check_claims.h uses it, by measurement (Zen 4).
  static constexpr int kAffineLevels = 4;
  static constexpr size_t kBatchGroups = 8, kMinBatchGroups = 2;
  using Mask = uint8_t;
  struct Element {
    __m256i limb[10];
  };

  static Element one() noexcept {
    Element out;
    out.limb[0] = set(1);
#pragma GCC unroll 9
    for (int i = 1; i < 10; ++i) out.limb[i] = _mm256_setzero_si256();
    return out;
  }

  // Row by row: ten columns at a time are open, which leaves registers for a factor and a product.
  [[gnu::noinline]] static Element multiply(const Element& a, const Element& b) noexcept {
    __m256i column[19];
#pragma GCC unroll 10
    for (int j = 0; j < 10; ++j) {
      const __m256i factor = b.limb[j];
#pragma GCC unroll 10
      for (int i = 0; i < 10; ++i) {
        const __m256i product = _mm256_mul_epu32(a.limb[i], factor);
        column[i + j] = i == 9 || j == 0 ? product : _mm256_add_epi64(column[i + j], product);
        settle(column[i + j]);
      }
    }
    return folded(column);
  }

  [[gnu::noinline]] static Element square(const Element& a) noexcept {
    __m256i column[19];
#pragma GCC unroll 10
    for (int j = 0; j < 10; ++j) {
      const __m256i own = _mm256_mul_epu32(a.limb[j], a.limb[j]);
      column[2 * j] = j == 0 || j == 9 ? own : _mm256_add_epi64(column[2 * j], own);
      const __m256i twice = _mm256_add_epi64(a.limb[j], a.limb[j]);
#pragma GCC unroll 10
      for (int i = j + 1; i < 10; ++i) {
        const __m256i product = _mm256_mul_epu32(a.limb[i], twice);
        column[i + j] = i == 9 || j == 0 ? product : _mm256_add_epi64(column[i + j], product);
        settle(column[i + j]);
      }
    }
    return folded(column);
  }

  static Element difference(const Element& a, const Element& b) noexcept {
    return difference_plus(6, a, b);
  }
  static Element small_difference(const Element& a, const Element& b) noexcept {
    return difference_plus(3, a, b);
  }
  static Element signed_difference(Mask is_negative, const Element& a, const Element& b) noexcept {
    const __m256i flip = lanes_of(is_negative);
    Element out;
#pragma GCC unroll 10
    for (int i = 0; i < 10; ++i) {
      const __m256i signed_a = _mm256_sub_epi64(_mm256_xor_si256(a.limb[i], flip), flip);
      out.limb[i] = _mm256_add_epi64(signed_a, _mm256_sub_epi64(multiple_of_prime(6, i), b.limb[i]));
    }
    return out;
  }
  static Element negated(Mask is_negative, const Element& a) noexcept {
    const __m256i flip = lanes_of(is_negative);
    Element out;
#pragma GCC unroll 10
    for (int i = 0; i < 10; ++i)
      out.limb[i] = _mm256_blendv_epi8(
          a.limb[i], _mm256_sub_epi64(multiple_of_prime(2, i), a.limb[i]), flip);
    return out;
  }
  // a - b - 2 c, all of size 1 and a little.
  static Element third(const Element& a, const Element& b, const Element& c) noexcept {
    Element out;
#pragma GCC unroll 10
    for (int i = 0; i < 10; ++i) {
      const __m256i less = _mm256_add_epi64(b.limb[i], _mm256_add_epi64(c.limb[i], c.limb[i]));
      out.limb[i] = _mm256_sub_epi64(_mm256_add_epi64(a.limb[i], multiple_of_prime(4, i)), less);
    }
    return out;
  }
  // a - b - c for an x, all of size 1 and a little; a - b for a y, where b may have size 2.
  static Element compact_third(const Element& a, const Element& b, const Element& c) noexcept {
    Element out;
#pragma GCC unroll 10
    for (int i = 0; i < 10; ++i)
      out.limb[i] = _mm256_sub_epi64(_mm256_add_epi64(a.limb[i], multiple_of_prime(3, i)),
                                     _mm256_add_epi64(b.limb[i], c.limb[i]));
    return carried(out);
  }
  static Element compact_difference(const Element& a, const Element& b) noexcept {
    return carried(small_difference(a, b));
  }
  static Element select(Mask mask, const Element& a, const Element& b) noexcept {
    const __m256i is_a = lanes_of(mask);
    Element out;
#pragma GCC unroll 10
    for (int i = 0; i < 10; ++i) out.limb[i] = _mm256_blendv_epi8(b.limb[i], a.limb[i], is_a);
    return out;
  }
  static Element rotated(const Element& a, int lanes) noexcept {
    Element out;
#pragma GCC unroll 10
    for (int i = 0; i < 10; ++i)
      out.limb[i] = lanes == 2 ? _mm256_permute4x64_epi64(a.limb[i], 0x4e)
                               : _mm256_permute4x64_epi64(a.limb[i], 0x39);
    return out;
  }

  static void load(const Point* const (&rows)[kLanes], Element& x, Element& y) noexcept {
    x = from_rows(&rows[0]->x, &rows[1]->x, &rows[2]->x, &rows[3]->x);
    y = from_rows(&rows[0]->y, &rows[1]->y, &rows[2]->y, &rows[3]->y);
  }
  static Element lanes_from(const Uint256 (&values)[kLanes]) noexcept {
    return from_rows(&values[0], &values[1], &values[2], &values[3]);
  }
  // Below p, from any size.
  static void store(const Element& a, Uint256 (&values)[kLanes]) noexcept {
    const Element r = reduced(a);
    alignas(32) uint64_t limb[10][kLanes];
    for (int i = 0; i < 10; ++i)
      _mm256_store_si256(reinterpret_cast<__m256i*>(limb[i]), r.limb[i]);
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const auto at = [&](int i) { return limb[i][lane]; };
      values[lane] = {{at(0) | at(1) << 26 | at(2) << 52,
                       at(2) >> 12 | at(3) << 14 | at(4) << 40,
                       at(4) >> 24 | at(5) << 2 | at(6) << 28 | at(7) << 54,
                       at(7) >> 10 | at(8) << 16 | at(9) << 42}};
    }
  }
  static Mask is_zero(const Element& a) noexcept {
    const Element r = reduced(a);
    __m256i any = r.limb[0];
#pragma GCC unroll 9
    for (int i = 1; i < 10; ++i) any = _mm256_or_si256(any, r.limb[i]);
    return mask_of(_mm256_cmpeq_epi64(any, _mm256_setzero_si256()));
  }
  // Of the value below p.
  static Mask parity(const Element& a) noexcept {
    const __m256i low_bit = _mm256_and_si256(reduced(a).limb[0], set(1));
    return mask_of(_mm256_cmpeq_epi64(low_bit, set(1)));
  }

 private:
  static constexpr int64_t kLimbMask = (int64_t{1} << 26) - 1;
  static constexpr int64_t kTopMask = (int64_t{1} << 22) - 1;
  // 2^256 modulo p is kFoldLow + 2^26 kFoldNext.
  static constexpr int64_t kFoldLow = 0x3D1;
  static constexpr int kFoldNextShift = 6;
  static_assert(kFoldLow + (int64_t{1} << (26 + kFoldNextShift)) == kFold);

  static __m256i set(int64_t value) noexcept { return _mm256_set1_epi64x(value); }

  // All ones where the bit of the lane is set.
  static __m256i lanes_of(Mask mask) noexcept {
    const __m256i bits = _mm256_set_epi64x(8, 4, 2, 1);
    return _mm256_cmpeq_epi64(_mm256_and_si256(set(mask), bits), bits);
  }
  static Mask mask_of(__m256i lanes) noexcept {
    return static_cast<Mask>(_mm256_movemask_pd(_mm256_castsi256_pd(lanes)));
  }

  // Limb i of k p, each of them k times that of p: no difference is negative.
  static __m256i multiple_of_prime(int k, int i) noexcept {
    if (i == 0) return set(k * (kLimbMask + 1 - kFoldLow));
    if (i == 1) return set(k * (kLimbMask - (int64_t{1} << kFoldNextShift)));
    return set(k * (i == 9 ? kTopMask : kLimbMask));
  }

  // a - b + k p
  static Element difference_plus(int k, const Element& a, const Element& b) noexcept {
    Element out;
#pragma GCC unroll 10
    for (int i = 0; i < 10; ++i)
      out.limb[i] =
          _mm256_sub_epi64(_mm256_add_epi64(a.limb[i], multiple_of_prime(k, i)), b.limb[i]);
    return out;
  }

  static __m256i low26(__m256i a) noexcept { return _mm256_and_si256(a, set(kLimbMask)); }
  static __m256i times(__m256i a, int64_t factor) noexcept {
    return _mm256_mul_epu32(a, set(factor));
  }

  // Carries once from limb to limb, and from the top to the bottom. Limbs below 2^32.
  static Element carried(const Element& a) noexcept {
    const __m256i top = _mm256_srli_epi64(a.limb[9], 22);
    Element out;
    out.limb[0] = _mm256_add_epi64(low26(a.limb[0]), times(top, kFoldLow));
#pragma GCC unroll 8
    for (int i = 1; i < 9; ++i)
      out.limb[i] = _mm256_add_epi64(low26(a.limb[i]), _mm256_srli_epi64(a.limb[i - 1], 26));
    out.limb[1] = _mm256_add_epi64(out.limb[1], _mm256_slli_epi64(top, kFoldNextShift));
    out.limb[9] = _mm256_add_epi64(_mm256_and_si256(a.limb[9], set(kTopMask)),
                                   _mm256_srli_epi64(a.limb[8], 26));
    return out;
  }

  // Has the sum made here, and what follows read its operands from memory: the compiler would make
  // all products of a row first and keep all limbs at hand, in registers that it does not have.
  static void settle(__m256i& sum) noexcept { asm volatile("" : "+x"(sum) : : "memory"); }

  // The number of nineteen columns, modulo p.
  static Element folded(const __m256i (&column)[19]) noexcept {
    // 2^260 modulo p is low + 2^26 next.
    constexpr int64_t low = kFoldLow << 4, next = int64_t{1} << (kFoldNextShift + 4);
    __m256i high[10];  // columns 10 and up, carries done
    __m256i carry = column[9];
    const __m256i ninth = low26(carry);
#pragma GCC unroll 9
    for (int i = 0; i < 9; ++i) {
      carry = _mm256_add_epi64(column[i + 10], _mm256_srli_epi64(carry, 26));
      high[i] = low26(carry);
    }
    high[9] = _mm256_srli_epi64(carry, 26);  // below 2^25

    Element out;
    carry = column[0];
#pragma GCC unroll 9
    for (int i = 0; i < 9; ++i) {
      carry = _mm256_add_epi64(carry, times(high[i], low));
      out.limb[i] = low26(carry);
      const __m256i above = i == 8 ? ninth : column[i + 1];
      carry = _mm256_add_epi64(_mm256_add_epi64(above, times(high[i], next)),
                               _mm256_srli_epi64(carry, 26));
    }
    carry = _mm256_add_epi64(carry, times(high[9], low));
    out.limb[9] = _mm256_and_si256(carry, set(kTopMask));
    // What is above 2^256 goes to the bottom, and `next` times high[9], which is above 2^260. That
    // comes last so that the second chain of carries need not wait for the end of the first one.
    const __m256i top = _mm256_srli_epi64(carry, 22);
    carry = _mm256_add_epi64(_mm256_add_epi64(out.limb[0], times(high[9], low * next)),
                             times(top, kFoldLow));
    out.limb[0] = low26(carry);
    carry = _mm256_add_epi64(
        _mm256_add_epi64(_mm256_add_epi64(out.limb[1], times(high[9], next * next)),
                         _mm256_slli_epi64(top, kFoldNextShift)),
        _mm256_srli_epi64(carry, 26));
    out.limb[1] = low26(carry);
    out.limb[2] = _mm256_add_epi64(out.limb[2], _mm256_srli_epi64(carry, 26));
    return out;
  }

  // Moves what is above 2^256 to the bottom, and does all carries but for that of limb 9.
  static Element top_folded(Element a) noexcept {
    const __m256i top = _mm256_srli_epi64(a.limb[9], 22);
    a.limb[9] = _mm256_and_si256(a.limb[9], set(kTopMask));
    a.limb[0] = _mm256_add_epi64(a.limb[0], times(top, kFoldLow));
    a.limb[1] = _mm256_add_epi64(a.limb[1], _mm256_slli_epi64(top, kFoldNextShift));
    return rippled(a);
  }
  static Element rippled(Element a) noexcept {
#pragma GCC unroll 9
    for (int i = 0; i < 9; ++i) {
      a.limb[i + 1] = _mm256_add_epi64(a.limb[i + 1], _mm256_srli_epi64(a.limb[i], 26));
      a.limb[i] = low26(a.limb[i]);
    }
    return a;
  }

  // The form below p, from any size: folded twice it is below 2^256.
  static Element reduced(const Element& a) noexcept {
    const Element small_enough = top_folded(top_folded(a));
    Element more = small_enough;
    more.limb[0] = _mm256_add_epi64(more.limb[0], set(kFoldLow));
    more.limb[1] = _mm256_add_epi64(more.limb[1], set(int64_t{1} << kFoldNextShift));
    more = rippled(more);
    // It was p or more exactly if adding 2^256 - p reaches 2^256.
    const Mask is_over = mask_of(_mm256_cmpgt_epi64(more.limb[9], set(kTopMask)));
    more.limb[9] = _mm256_and_si256(more.limb[9], set(kTopMask));
    return select(is_over, more, small_enough);
  }

  static __m256i load_words(const Uint256* value) noexcept {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(value->limb.data()));
  }

  // Four values of four words, one a lane.
  static Element from_rows(const Uint256* v0, const Uint256* v1, const Uint256* v2,
                           const Uint256* v3) noexcept {
    const __m256i a = load_words(v0), b = load_words(v1), c = load_words(v2), d = load_words(v3);
    const __m256i ab_even = _mm256_unpacklo_epi64(a, b), ab_odd = _mm256_unpackhi_epi64(a, b);
    const __m256i cd_even = _mm256_unpacklo_epi64(c, d), cd_odd = _mm256_unpackhi_epi64(c, d);
    const __m256i w0 = _mm256_permute2x128_si256(ab_even, cd_even, 0x20);
    const __m256i w1 = _mm256_permute2x128_si256(ab_odd, cd_odd, 0x20);
    const __m256i w2 = _mm256_permute2x128_si256(ab_even, cd_even, 0x31);
    const __m256i w3 = _mm256_permute2x128_si256(ab_odd, cd_odd, 0x31);
    const auto from = [](__m256i word, int down) {
      return low26(_mm256_srli_epi64(word, down));
    };
    const auto joined = [](__m256i low, int down, __m256i high, int up) {
      return low26(_mm256_or_si256(_mm256_srli_epi64(low, down), _mm256_slli_epi64(high, up)));
    };
    return {{low26(w0), from(w0, 26), joined(w0, 52, w1, 12), from(w1, 14), joined(w1, 40, w2, 24),
             from(w2, 2), from(w2, 28), joined(w2, 54, w3, 10), from(w3, 16),
             _mm256_srli_epi64(w3, 42)}};
  }
};

}  // namespace lpnode::ticket
