// secp256k1 in the plainest way, to compare the quick ways with: scalars modulo n, points by x,
// and recovery of a public key as SEC 1 (4.1.6) describes it.
#pragma once

#include <optional>
#include <random>
#include <vector>

#include "ticket/curve.h"
#include "ticket/order_field.h"

namespace lpnode::test {

using namespace lpnode::ticket;

class Numbers {
 public:
  explicit Numbers(uint64_t seed) : words_(seed) {}

  uint64_t word() { return words_(); }
  Uint256 value() { return {{words_(), words_(), words_(), words_()}}; }
  // From 1 to n - 1.
  Uint256 scalar() {
    Uint256 any = value();
    while (any.is_zero() || any >= kOrder) any = value();
    return any;
  }

 private:
  std::mt19937_64 words_;
};

inline Uint256 order_reduce(const Uint256& a) {
  Uint256 less;
  return subtract_with_borrow(a, kOrder, less) ? a : less;
}

inline Uint256 order_multiply(const Uint256& a, const Uint256& b) {
  return montgomery_multiply(montgomery_multiply(a, order_reduce(b)), kMontgomerySquare);
}

inline Uint256 order_subtract(const Uint256& a, const Uint256& b) {
  Uint256 out;
  if (subtract_with_borrow(a, b, out)) add_with_carry(out, kOrder, out);
  return out;
}

inline Uint256 order_negate(const Uint256& a) { return order_subtract({}, order_reduce(a)); }

inline Uint256 order_inverse(const Uint256& a) { return modular_inverse(a, kOrderModulus); }

inline Uint256 power_of_two(int bit) {
  Uint256 power{};
  power.limb[bit / 64] = uint64_t{1} << (bit % 64);
  return power;
}

// The point with this x (below p) and parity of y, if the curve has one.
inline std::optional<Point> point_at(const Uint256& x, bool y_is_odd) {
  const Uint256 square = field_add(field_multiply(field_square(x), x), {{7}});
  Uint256 exponent;  // (p + 1) / 4
  add_with_carry(kPrime, {{1}}, exponent);
  for (int i = 0; i < 4; ++i)
    exponent.limb[i] = exponent.limb[i] >> 2 | (i < 3 ? exponent.limb[i + 1] << 62 : 0);
  Uint256 root{{1}};
  for (int bit = 255; bit >= 0; --bit) {
    root = field_square(root);
    if (exponent.limb[bit / 64] >> (bit % 64) & 1) root = field_multiply(root, square);
  }
  root = reduced(root);
  if (reduced(field_square(root)) != reduced(square)) return std::nullopt;
  const Point point{x, root};
  return (root.limb[0] & 1) == y_is_odd ? point : negated(point);
}

// The P for which (r, s) over z belongs to R: s R = z G + r P. Nothing if it is at infinity.
inline std::optional<Point> signer_of(const Point& big_r, const Uint256& r, const Uint256& s,
                                      const Uint256& z) {
  const Uint256 inverse = order_inverse(r);
  return sum(multiple(big_r, order_multiply(s, inverse)),
             multiple(kGenerator, order_multiply(order_negate(z), inverse)));
}

inline PublicKey key_of(const Point& point) {
  PublicKey key;
  to_big_endian(point.x, key.data());
  to_big_endian(point.y, key.data() + 32);
  return key;
}

inline Hash32 bytes_of(const Uint256& value) {
  Hash32 bytes;
  to_big_endian(value, bytes.data());
  return bytes;
}

}  // namespace lpnode::test
