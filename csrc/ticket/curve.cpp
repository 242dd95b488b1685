#include "ticket/curve.h"

#include <algorithm>
#include <vector>

#include "error.h"

namespace lpnode::ticket {
namespace {

// The third point on the line through a and b, mirrored: a + b for the line's slope.
Point on_slope(const Uint256& slope, const Point& a, const Uint256& b_x) noexcept {
  const Uint256 x = field_subtract(field_subtract(field_square(slope), a.x), b_x);
  const Uint256 y = field_subtract(field_multiply(slope, field_subtract(a.x, x)), a.y);
  return {reduced(x), reduced(y)};
}

}  // namespace

Point to_point(const PublicKey& key) {
  const Point point{from_big_endian(key.data()), from_big_endian(key.data() + 32)};
  const Uint256 cube = field_multiply(field_square(point.x), point.x);
  if (point.x >= kPrime || point.y >= kPrime ||
      reduced(field_square(point.y)) != reduced(field_add(cube, {{7}})))
    throw InvalidArgument("a public key must be a point of the curve secp256k1");
  return point;
}

Point negated(const Point& point) noexcept {
  return {point.x, reduced(field_subtract({}, point.y))};
}

Point doubled(const Point& point) noexcept {
  const Uint256 square = field_square(point.x);
  const Uint256 slope = field_multiply(field_add(field_add(square, square), square),
                                       field_inverse(field_add(point.y, point.y)));
  return on_slope(slope, point, point.x);
}

std::optional<Point> sum(const std::optional<Point>& a, const std::optional<Point>& b) noexcept {
  if (!a) return b;
  if (!b) return a;
  if (a->x == b->x) return a->y == b->y ? std::optional(doubled(*a)) : std::nullopt;
  const Uint256 slope = field_multiply(field_subtract(b->y, a->y),
                                       field_inverse(field_subtract(b->x, a->x)));
  return on_slope(slope, *a, b->x);
}

std::optional<Point> multiple(const Point& point, const Uint256& scalar) noexcept {
  std::optional<Point> out;
  for (int bit = 255; bit >= 0; --bit) {
    out = sum(out, out);
    if (scalar.limb[bit / 64] >> (bit % 64) & 1) out = sum(out, point);
  }
  return out;
}

void fill(std::span<const Progression> progressions) {
  size_t longest = 0;
  for (const Progression& progression : progressions) {
    if (!progression.rows.empty()) progression.rows[0] = progression.first;
    longest = std::max(longest, progression.rows.size());
  }
  std::vector<Uint256> products(progressions.size());
  for (size_t row = 1; row < longest; ++row) {
    Uint256 product{{1}};
    for (size_t i = 0; i < progressions.size(); ++i) {
      const Progression& p = progressions[i];
      products[i] = product;
      if (row < p.rows.size())
        product = field_multiply(product, field_subtract(p.step.x, p.rows[row - 1].x));
    }
    Uint256 inverse = field_inverse(product);
    if (inverse.is_zero()) throw InvalidArgument("a table's points must not repeat");
    for (size_t i = progressions.size(); i-- > 0;) {
      const Progression& p = progressions[i];
      if (row >= p.rows.size()) continue;
      const Point& last = p.rows[row - 1];
      const Uint256 slope = field_multiply(field_subtract(p.step.y, last.y),
                                           field_multiply(inverse, products[i]));
      inverse = field_multiply(inverse, field_subtract(p.step.x, last.x));
      p.rows[row] = on_slope(slope, last, p.step.x);
    }
  }
}

}  // namespace lpnode::ticket
