// The field of secp256k1, one value at a time, in the shape that point_sum.h asks for.
//
// An element is five limbs of 52 bits in words of 64, so that sums and differences need no carries:
// the next product does them. Bounds, as the largest limbs in units of 2^52 (limb 4: of 2^48, half
// as many): products and rows have size 2, which is above what they need; difference and
// signed_difference 16 and that of a, for b of size 12; small_difference 4 and that of a, for b a
// product or negated; third 10, negated 4. Factors may have size 20: five products of theirs stay
// below 2^115.
#pragma once

#include "ticket/field.h"
#include "ticket/signer_table.h"

namespace lpnode::ticket {

struct FieldScalar {
  static constexpr size_t kLanes = 1;
  // How check_claims.h uses it, by measurement (Zen 4).
  static constexpr int kAffineLevels = 4;
  static constexpr size_t kBatchGroups = 32, kMinBatchGroups = 2;
  using Mask = uint8_t;
  struct Element {
    uint64_t limb[5];
  };

  static Element one() noexcept { return {{1, 0, 0, 0, 0}}; }

  static Element multiply(const Element& a, const Element& b) noexcept {
    Wide column[9];
#pragma GCC unroll 9
    for (int k = 0; k < 9; ++k) {
      column[k] = 0;
#pragma GCC unroll 5
      for (int i = 0; i < 5; ++i)
        if (k - i >= 0 && k - i < 5) column[k] += static_cast<Wide>(a.limb[i]) * b.limb[k - i];
    }
    return folded(column);
  }

  static Element square(const Element& a) noexcept {
    Wide column[9];
#pragma GCC unroll 9
    for (int k = 0; k < 9; ++k) {
      column[k] = 0;
#pragma GCC unroll 5
      for (int i = 0; i < 5; ++i)
        if (k - i > i && k - i < 5) column[k] += static_cast<Wide>(2 * a.limb[i]) * a.limb[k - i];
      if (k % 2 == 0) column[k] += static_cast<Wide>(a.limb[k / 2]) * a.limb[k / 2];
    }
    return folded(column);
  }

  static Element difference(const Element& a, const Element& b) noexcept {
    return difference_plus(8, a, b);
  }
  static Element small_difference(const Element& a, const Element& b) noexcept {
    return difference_plus(2, a, b);
  }
  static Element signed_difference(Mask is_negative, const Element& a, const Element& b) noexcept {
    const uint64_t flip = -uint64_t{is_negative};
    Element out;
#pragma GCC unroll 5
    for (int i = 0; i < 5; ++i)
      out.limb[i] = multiple_of_prime(8, i) + ((a.limb[i] ^ flip) - flip) - b.limb[i];
    return out;
  }
  static Element negated(Mask is_negative, const Element& a) noexcept {
    return is_negative ? difference_plus(2, {}, a) : a;
  }
  static Element third(const Element& a, const Element& b, const Element& c) noexcept {
    Element out;
#pragma GCC unroll 5
    for (int i = 0; i < 5; ++i)
      out.limb[i] = a.limb[i] + multiple_of_prime(4, i) - b.limb[i] - 2 * c.limb[i];
    return out;
  }
  // a - b - c for an x, a - b for a y, both of the size of products.
  static Element compact_third(const Element& a, const Element& b, const Element& c) noexcept {
    Element out;
#pragma GCC unroll 5
    for (int i = 0; i < 5; ++i)
      out.limb[i] = a.limb[i] + multiple_of_prime(4, i) - b.limb[i] - c.limb[i];
    return carried(out);
  }
  static Element compact_difference(const Element& a, const Element& b) noexcept {
    return carried(small_difference(a, b));
  }
  static Element select(Mask mask, const Element& a, const Element& b) noexcept {
    return mask ? a : b;
  }
  static Element rotated(const Element& a, int) noexcept { return a; }

  static void load(const Point* const (&rows)[kLanes], Element& x, Element& y) noexcept {
    x = from_words(rows[0]->x);
    y = from_words(rows[0]->y);
  }
  static Element lanes_from(const Uint256 (&values)[kLanes]) noexcept {
    return from_words(values[0]);
  }
  static void store(const Element& a, Uint256 (&values)[kLanes]) noexcept {
    values[0] = to_words(a);
  }
  static Mask is_zero(const Element& a) noexcept { return to_words(a).is_zero(); }
  static Mask parity(const Element& a) noexcept { return to_words(a).limb[0] & 1; }

 private:
  using Wide = unsigned __int128;
  static constexpr uint64_t kLimbMask = (uint64_t{1} << 52) - 1;
  static constexpr uint64_t kTopMask = (uint64_t{1} << 48) - 1;

  // Limb i of k p, spread so that each has size 2 k less a little: no difference is negative.
  static constexpr uint64_t multiple_of_prime(uint64_t k, int i) noexcept {
    if (i == 0) return 2 * k * (kLimbMask + 1) - k * kFold;
    if (i == 4) return k * (kTopMask + 1) - 2 * k;
    return 2 * k * (kLimbMask + 1) - 2 * k;
  }

  static Element difference_plus(uint64_t k, const Element& a, const Element& b) noexcept {
    Element out;
#pragma GCC unroll 5
    for (int i = 0; i < 5; ++i) out.limb[i] = a.limb[i] + multiple_of_prime(k, i) - b.limb[i];
    return out;
  }

  // Carries once from limb to limb, and from the top to the bottom.
  static Element carried(const Element& a) noexcept {
    Element out;
    out.limb[0] = (a.limb[0] & kLimbMask) + (a.limb[4] >> 48) * kFold;
#pragma GCC unroll 3
    for (int i = 1; i < 4; ++i) out.limb[i] = (a.limb[i] & kLimbMask) + (a.limb[i - 1] >> 52);
    out.limb[4] = (a.limb[4] & kTopMask) + (a.limb[3] >> 52);
    return out;
  }

  static Element folded(Wide (&column)[9]) noexcept {
    constexpr uint64_t fold = kFold << 4;  // 2^260 modulo p
    uint64_t high[5];
#pragma GCC unroll 3
    for (int i = 0; i < 3; ++i) {
      high[i] = static_cast<uint64_t>(column[i + 5]) & kLimbMask;
      column[i + 6] += column[i + 5] >> 52;
    }
    high[3] = static_cast<uint64_t>(column[8]) & kLimbMask;
    high[4] = static_cast<uint64_t>(column[8] >> 52);
    Element out;
    Wide sum = 0;
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      sum += column[i] + static_cast<Wide>(high[i]) * fold;
      out.limb[i] = static_cast<uint64_t>(sum) & kLimbMask;
      sum >>= 52;
    }
    sum += column[4] + static_cast<Wide>(high[4]) * fold;
    out.limb[4] = static_cast<uint64_t>(sum) & kTopMask;
    const Wide over = (sum >> 48) * kFold + out.limb[0];
    out.limb[0] = static_cast<uint64_t>(over) & kLimbMask;
    out.limb[1] += static_cast<uint64_t>(over >> 52);
    return out;
  }

  static Element from_words(const Uint256& a) noexcept {
    const auto& w = a.limb;
    return {{w[0] & kLimbMask, (w[0] >> 52 | w[1] << 12) & kLimbMask,
             (w[1] >> 40 | w[2] << 24) & kLimbMask, (w[2] >> 28 | w[3] << 36) & kLimbMask,
             w[3] >> 16}};
  }

  // Below p, from any size: a product with one has done the carries but for that of limb 1.
  static Uint256 to_words(const Element& a) noexcept {
    Element r = multiply(a, one());
    for (int i = 1; i < 4; ++i) {
      r.limb[i + 1] += r.limb[i] >> 52;
      r.limb[i] &= kLimbMask;
    }
    const Uint256 low{{r.limb[0] | r.limb[1] << 52, r.limb[1] >> 12 | r.limb[2] << 40,
                       r.limb[2] >> 24 | r.limb[3] << 28, r.limb[3] >> 36 | r.limb[4] << 16}};
    return reduced(r.limb[4] >> 48 ? field_add(low, {{kFold}}) : low);
  }
};

}  // namespace lpnode::ticket
