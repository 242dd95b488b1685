// The field of secp256k1, eight values side by side with AVX-512 IFMA.
//
// An element is five limbs of 52 bits, value < 2^260. What IFMA multiplies are the low 52 bits of a
// register, so every result has its carries done. Bounds in units of 2^256 ("size"):
//   multiply, square, load, lanes_from: size 1 and a little (2^214 more at most)
//   difference and signed_difference of a and b: 8 and that of a; b may have size 7
//   small_difference: 2 and that of a; b must have size 1;  third: 5;  negated: 2
// so that in point_sum.h x has size 5, y 3 and a factor at most 10, below 16.
#pragma once

#include <immintrin.h>

#include "ticket/field.h"
#include "ticket/signer_table.h"

namespace lpnode::ticket {

struct FieldIfma {
  static constexpr size_t kLanes = 8;
  // How check_claims.h uses it, by measurement (Zen 4).
  static constexpr int kAffineLevels = 3;
  static constexpr size_t kBatchGroups = 8, kMinBatchGroups = 2;
  using Mask = uint8_t;
  struct Element {
    __m512i limb[5];
  };

  static Element one() noexcept { return small(1); }

  static Element multiply(const Element& a, const Element& b) noexcept {
    __m512i low[10], high[10];
#pragma GCC unroll 10
    for (int i = 0; i < 10; ++i) low[i] = high[i] = _mm512_setzero_si512();
#pragma GCC unroll 5
    for (int i = 0; i < 5; ++i) {
#pragma GCC unroll 5
      for (int j = 0; j < 5; ++j) {
        low[i + j] = _mm512_madd52lo_epu64(low[i + j], a.limb[i], b.limb[j]);
        high[i + j + 1] = _mm512_madd52hi_epu64(high[i + j + 1], a.limb[i], b.limb[j]);
      }
    }
#pragma GCC unroll 10
    for (int i = 0; i < 10; ++i) low[i] = _mm512_add_epi64(low[i], high[i]);
    return folded(low);
  }

  static Element square(const Element& a) noexcept {
    __m512i low[10], high[10];
#pragma GCC unroll 10
    for (int i = 0; i < 10; ++i) low[i] = high[i] = _mm512_setzero_si512();
#pragma GCC unroll 5
    for (int i = 0; i < 5; ++i) {
#pragma GCC unroll 5
      for (int j = i + 1; j < 5; ++j) {
        low[i + j] = _mm512_madd52lo_epu64(low[i + j], a.limb[i], a.limb[j]);
        high[i + j + 1] = _mm512_madd52hi_epu64(high[i + j + 1], a.limb[i], a.limb[j]);
      }
    }
#pragma GCC unroll 10
    for (int i = 0; i < 10; ++i) {
      low[i] = _mm512_add_epi64(low[i], high[i]);
      low[i] = _mm512_add_epi64(low[i], low[i]);
    }
#pragma GCC unroll 5
    for (int i = 0; i < 5; ++i) {
      low[2 * i] = _mm512_madd52lo_epu64(low[2 * i], a.limb[i], a.limb[i]);
      low[2 * i + 1] = _mm512_madd52hi_epu64(low[2 * i + 1], a.limb[i], a.limb[i]);
    }
    return folded(low);
  }

  static Element difference(const Element& a, const Element& b) noexcept {
    return difference_plus(8, a, b);
  }
  static Element small_difference(const Element& a, const Element& b) noexcept {
    return difference_plus(2, a, b);
  }

  static Element signed_difference(Mask is_negative, const Element& a, const Element& b) noexcept {
    Element out;
#pragma GCC unroll 5
    for (int i = 0; i < 5; ++i) {
      const __m512i less = _mm512_sub_epi64(multiple_of_prime(8, i), b.limb[i]);
      out.limb[i] = _mm512_mask_sub_epi64(_mm512_add_epi64(less, a.limb[i]), is_negative, less,
                                          a.limb[i]);
    }
    return carried(out);
  }

  static Element negated(Mask is_negative, const Element& a) noexcept {
    Element out;
#pragma GCC unroll 5
    for (int i = 0; i < 5; ++i)
      out.limb[i] = _mm512_mask_sub_epi64(a.limb[i], is_negative, multiple_of_prime(2, i),
                                          a.limb[i]);
    return carried(out);
  }

  // a - b - 2 c, all of size 1 and a little.
  static Element third(const Element& a, const Element& b, const Element& c) noexcept {
    Element out;
#pragma GCC unroll 5
    for (int i = 0; i < 5; ++i) {
      const __m512i more = _mm512_add_epi64(a.limb[i], multiple_of_prime(4, i));
      const __m512i less =
          _mm512_add_epi64(b.limb[i], _mm512_add_epi64(c.limb[i], c.limb[i]));
      out.limb[i] = _mm512_sub_epi64(more, less);
    }
    return carried(out);
  }

  // a - b - c for an x, a - b for a y, both of size 2 and a little, like a, b and c at most.
  static Element compact_third(const Element& a, const Element& b, const Element& c) noexcept {
    Element out;
#pragma GCC unroll 5
    for (int i = 0; i < 5; ++i)
      out.limb[i] = _mm512_sub_epi64(_mm512_add_epi64(a.limb[i], multiple_of_prime(8, i)),
                                     _mm512_add_epi64(b.limb[i], c.limb[i]));
    return compact(out);
  }
  static Element compact_difference(const Element& a, const Element& b) noexcept {
    Element out;
#pragma GCC unroll 5
    for (int i = 0; i < 5; ++i)
      out.limb[i] =
          _mm512_sub_epi64(_mm512_add_epi64(a.limb[i], multiple_of_prime(8, i)), b.limb[i]);
    return compact(out);
  }

  static Element select(Mask mask, const Element& a, const Element& b) noexcept {
    Element out;
#pragma GCC unroll 5
    for (int i = 0; i < 5; ++i)
      out.limb[i] = _mm512_mask_blend_epi64(mask, b.limb[i], a.limb[i]);
    return out;
  }

  static Element rotated(const Element& a, int lanes) noexcept {
    const __m512i from = _mm512_and_si512(
        _mm512_add_epi64(_mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0), _mm512_set1_epi64(lanes)),
        _mm512_set1_epi64(7));
    Element out;
#pragma GCC unroll 5
    for (int i = 0; i < 5; ++i) out.limb[i] = _mm512_permutexvar_epi64(from, a.limb[i]);
    return out;
  }

  static void load(const Point* const (&rows)[kLanes], Element& x, Element& y) noexcept {
    // An 8 x 8 transpose of words: rows to columns.
    __m512i row[8], pair[8], quad[8], word[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) row[i] = _mm512_load_si512(rows[i]);
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
      pair[i] = _mm512_unpacklo_epi64(row[i], row[i + 1]);
      pair[i + 1] = _mm512_unpackhi_epi64(row[i], row[i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {
#pragma GCC unroll 2
      for (int j = 0; j < 2; ++j) {
        quad[i + j] = _mm512_shuffle_i64x2(pair[i + j], pair[i + j + 2], 0x88);
        quad[i + j + 2] = _mm512_shuffle_i64x2(pair[i + j], pair[i + j + 2], 0xdd);
      }
    }
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      word[j] = _mm512_shuffle_i64x2(quad[j], quad[j + 4], 0x88);
      word[j + 4] = _mm512_shuffle_i64x2(quad[j], quad[j + 4], 0xdd);
    }
    // Block k of row i (words 2k, 2k + 1) sits in pair[.] block k; 0x88 keeps blocks 0 and 2, 0xdd
    // blocks 1 and 3: word[] comes out as words 0, 1, 2, 3, then 4, 5, 6, 7.
    x = from_words(word[0], word[1], word[2], word[3]);
    y = from_words(word[4], word[5], word[6], word[7]);
  }

  static Element lanes_from(const Uint256 (&values)[kLanes]) noexcept {
    alignas(64) uint64_t word[4][kLanes];
    for (size_t lane = 0; lane < kLanes; ++lane)
      for (int i = 0; i < 4; ++i) word[i][lane] = values[lane].limb[i];
    return from_words(_mm512_load_si512(word[0]), _mm512_load_si512(word[1]),
                      _mm512_load_si512(word[2]), _mm512_load_si512(word[3]));
  }

  // Below 2^256; the element must be of size 1 and a little.
  static void store(const Element& a, Uint256 (&values)[kLanes]) noexcept {
    const Element r = reduced(a);
    alignas(64) uint64_t limb[5][kLanes];
    for (int i = 0; i < 5; ++i) _mm512_store_si512(limb[i], r.limb[i]);
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const auto at = [&](int i) { return limb[i][lane]; };
      values[lane] = {{at(0) | at(1) << 52, at(1) >> 12 | at(2) << 40, at(2) >> 24 | at(3) << 28,
                       at(3) >> 36 | at(4) << 16}};
    }
  }

  static Mask is_zero(const Element& a) noexcept {
    const Element r = reduced(a);
    const __m512i any = _mm512_or_si512(
        _mm512_or_si512(r.limb[0], r.limb[1]),
        _mm512_or_si512(_mm512_or_si512(r.limb[2], r.limb[3]), r.limb[4]));
    return _mm512_testn_epi64_mask(any, any);
  }

  // Of the value below p.
  static Mask parity(const Element& a) noexcept {
    return _mm512_test_epi64_mask(reduced(a).limb[0], _mm512_set1_epi64(1));
  }

 private:
  static constexpr int64_t kLimbMask = (int64_t{1} << 52) - 1;
  static constexpr int64_t kTopMask = (int64_t{1} << 48) - 1;

  static __m512i set(int64_t value) noexcept { return _mm512_set1_epi64(value); }

  static Element small(int64_t value) noexcept {
    const __m512i zero = _mm512_setzero_si512();
    return {{set(value), zero, zero, zero, zero}};
  }

  // Limb i of k p, k a power of two up to 8: all bits set but those of k (2^32 + 977).
  static __m512i multiple_of_prime(int k, int i) noexcept {
    const int64_t fold = static_cast<int64_t>(kFold) * k;  // below 2^36
    if (i == 0) return set((int64_t{1} << 52) - fold);
    if (i == 4) return set(int64_t{k} * (kTopMask + 1) - 1);
    return set(kLimbMask);
  }

  // a - b + k p
  static Element difference_plus(int k, const Element& a, const Element& b) noexcept {
    Element out;
#pragma GCC unroll 5
    for (int i = 0; i < 5; ++i)
      out.limb[i] =
          _mm512_sub_epi64(_mm512_add_epi64(a.limb[i], multiple_of_prime(k, i)), b.limb[i]);
    return carried(out);
  }

  static __m512i low52(__m512i a) noexcept { return _mm512_and_si512(a, set(kLimbMask)); }

  // Carries from limb to limb, also negative ones. The value must be positive.
  static Element carried(Element a) noexcept {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      a.limb[i + 1] = _mm512_add_epi64(a.limb[i + 1], _mm512_srai_epi64(a.limb[i], 52));
      a.limb[i] = low52(a.limb[i]);
    }
    return a;
  }

  // Moves what is above 2^256 to the bottom, as 2^256 = 2^32 + 977 modulo p: size 1 and a little.
  static Element top_folded(Element a) noexcept {
    const __m512i top = _mm512_srli_epi64(a.limb[4], 48);
    a.limb[4] = _mm512_and_si512(a.limb[4], set(kTopMask));
    a.limb[0] = _mm512_madd52lo_epu64(a.limb[0], top, set(static_cast<int64_t>(kFold)));
    return carried(a);
  }

  // To size 2, from limbs before their carries, which may be negative. One 2^256 is left at the top
  // so that the value stays positive; there must be two.
  static Element compact(Element a) noexcept {
    const __m512i top = _mm512_sub_epi64(_mm512_srli_epi64(a.limb[4], 48), set(1));
    a.limb[4] = _mm512_sub_epi64(a.limb[4], _mm512_slli_epi64(top, 48));
    a.limb[0] = _mm512_madd52lo_epu64(a.limb[0], top, set(static_cast<int64_t>(kFold)));
    return carried(a);
  }

  // The product of ten columns, each below 2^56, modulo p.
  static Element folded(const __m512i (&column)[10]) noexcept {
    const __m512i fold = set(static_cast<int64_t>(kFold) << 4);  // 2^260 modulo p, 37 bits
    __m512i h[5];
#pragma GCC unroll 5
    for (int i = 0; i < 5; ++i) h[i] = column[i + 5];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      h[i + 1] = _mm512_add_epi64(h[i + 1], _mm512_srli_epi64(h[i], 52));
      h[i] = low52(h[i]);
    }
    const __m512i zero = _mm512_setzero_si512();
    const __m512i above = _mm512_madd52hi_epu64(zero, h[4], fold);  // times 2^260 again
    Element out;
    out.limb[0] = _mm512_madd52lo_epu64(column[0], h[0], fold);
    __m512i second = _mm512_madd52hi_epu64(zero, h[0], fold);
    out.limb[0] = _mm512_madd52lo_epu64(out.limb[0], above, fold);
    second = _mm512_madd52hi_epu64(second, above, fold);
    out.limb[1] = _mm512_add_epi64(_mm512_madd52lo_epu64(column[1], h[1], fold), second);
#pragma GCC unroll 3
    for (int i = 2; i < 5; ++i) {
      const __m512i carry = _mm512_madd52hi_epu64(zero, h[i - 1], fold);
      out.limb[i] = _mm512_add_epi64(_mm512_madd52lo_epu64(column[i], h[i], fold), carry);
    }
    return top_folded(out);
  }

  // The form below p, from any size: folded twice it is below 2^256.
  static Element reduced(const Element& a) noexcept {
    const Element small_enough = top_folded(top_folded(a));
    Element more = small_enough;
    more.limb[0] = _mm512_add_epi64(more.limb[0], set(static_cast<int64_t>(kFold)));
    more = carried(more);
    // It was p or more exactly if adding 2^256 - p reaches 2^256.
    const Mask is_over = _mm512_test_epi64_mask(more.limb[4], set(~kTopMask));
    more.limb[4] = _mm512_and_si512(more.limb[4], set(kTopMask));
    return select(is_over, more, small_enough);
  }

  static Element from_words(__m512i w0, __m512i w1, __m512i w2, __m512i w3) noexcept {
    const auto joined = [](__m512i low, int down, __m512i high, int up) {
      return low52(_mm512_or_si512(_mm512_srli_epi64(low, static_cast<unsigned>(down)),
                                   _mm512_slli_epi64(high, static_cast<unsigned>(up))));
    };
    return {{low52(w0), joined(w0, 52, w1, 12), joined(w1, 40, w2, 24), joined(w2, 28, w3, 36),
             _mm512_srli_epi64(w3, 16)}};
  }
};

}  // namespace lpnode::ticket
