// The field of secp256k1, one value at a time, in the shape that point_sum.h asks for.
#pragma once

#include "ticket/field.h"
#include "ticket/signer_table.h"

namespace lpnode::ticket {

struct FieldScalar {
  static constexpr size_t kLanes = 1;
  using Mask = uint8_t;
  using Element = Uint256;

  static Element one() noexcept { return {{1}}; }
  static Element multiply(const Element& a, const Element& b) noexcept {
    return field_multiply(a, b);
  }
  static Element square(const Element& a) noexcept { return field_square(a); }
  static Element difference(const Element& a, const Element& b) noexcept {
    return field_subtract(a, b);
  }
  static Element small_difference(const Element& a, const Element& b) noexcept {
    return field_subtract(a, b);
  }
  static Element signed_difference(Mask is_negative, const Element& a, const Element& b) noexcept {
    return field_subtract(negated(is_negative, a), b);
  }
  static Element negated(Mask is_negative, const Element& a) noexcept {
    return is_negative ? field_subtract({}, a) : a;
  }
  static Element third(const Element& a, const Element& b, const Element& c) noexcept {
    return field_subtract(field_subtract(a, b), field_add(c, c));
  }
  static Element select(Mask mask, const Element& a, const Element& b) noexcept {
    return mask ? a : b;
  }
  static Element rotated(const Element& a, int) noexcept { return a; }
  static void load(const Point* const (&rows)[kLanes], Element& x, Element& y) noexcept {
    x = rows[0]->x;
    y = rows[0]->y;
  }
  static Element lanes_from(const Uint256 (&values)[kLanes]) noexcept { return values[0]; }
  static void store(const Element& a, Uint256 (&values)[kLanes]) noexcept {
    values[0] = reduced(a);
  }
  static Mask is_zero(const Element& a) noexcept { return reduced(a).is_zero(); }
  static Mask parity(const Element& a) noexcept { return reduced(a).limb[0] & 1; }
};

}  // namespace lpnode::ticket
