// Sums of table rows, the arithmetic of check_claims for any field: one value at a time or several
// side by side.
//
// Points are held as (X, Y, ZZ, ZZZ) with x = X / ZZ, y = Y / ZZZ, ZZ^3 = ZZZ^2. Adding needs no
// inversion, and where the formula does not hold (both points have the same x) ZZ becomes zero and
// stays so: the lane in question is spoilt, visibly, and no other.
// Source: the formulas "madd-2008-s", "mmadd-2008-s" and "add-2008-s" of the Explicit-Formulas
// Database, short Weierstrass curves, XYZZ coordinates.
#pragma once

#include <algorithm>

#include "ticket/known_signer.h"

namespace lpnode::ticket {

// F: kLanes, Element, Mask (bit l: lane l); bounds of the values are the business of F.
//   one(), multiply(a, b), square(a)
//   difference(a, b) = small_difference(a, b) = a - b
//   signed_difference(mask, a, b) = (mask ? -a : a) - b
//   negated(mask, a) = mask ? -a : a;  third(a, b, c) = a - b - 2 c
//   compact_third(a, b, c) = a - b - c and compact_difference(a, b) = a - b, to be kept
//   select(mask, a, b) = mask ? a : b;  rotated(a, lanes): lane l gets lane l + lanes
//   load(rows, x, y), is_zero(a), parity(a), lanes_from(values), store(a, values)
template <typename F>
struct PointSum {
  using Element = typename F::Element;
  using Mask = typename F::Mask;
  Element x, y, zz, zzz;

  void add(const Element& x2, const Element& y2, Mask is_negative) noexcept {
    const Element p = F::difference(F::multiply(x2, zz), x);
    const Element r = F::signed_difference(is_negative, F::multiply(y2, zzz), y);
    finish(x, y, p, r);
  }

  // The first two points, both from rows.
  static PointSum of_two(const Element& x1, const Element& y1, const Element& x2,
                         const Element& y2, Mask second_is_negative) noexcept {
    PointSum sum{x1, y1, F::one(), F::one()};
    const Element p = F::difference(x2, x1);
    const Element r = F::signed_difference(second_is_negative, y2, y1);
    const Element pp = F::square(p);
    const Element ppp = F::multiply(p, pp);
    sum.set(F::multiply(x1, pp), y1, ppp, r);
    sum.zz = pp;
    sum.zzz = ppp;
    return sum;
  }

  void add(const PointSum& other) noexcept {
    const Element u1 = F::multiply(x, other.zz);
    const Element s1 = F::multiply(y, other.zzz);
    const Element p = F::difference(F::multiply(other.x, zz), u1);
    const Element r = F::difference(F::multiply(other.y, zzz), s1);
    zz = F::multiply(zz, other.zz);
    zzz = F::multiply(zzz, other.zzz);
    finish(u1, s1, p, r);
  }

 private:
  void finish(const Element& u1, const Element& s1, const Element& p, const Element& r) noexcept {
    const Element pp = F::square(p);
    const Element ppp = F::multiply(p, pp);
    zz = F::multiply(zz, pp);
    zzz = F::multiply(zzz, ppp);
    set(F::multiply(u1, pp), s1, ppp, r);
  }

  void set(const Element& q, const Element& s1, const Element& ppp, const Element& r) noexcept {
    const Element new_x = F::third(F::square(r), ppp, q);
    y = F::small_difference(F::multiply(r, F::difference(q, new_x)), F::multiply(s1, ppp));
    x = new_x;
  }
};

}  // namespace lpnode::ticket
