// Points of secp256k1 (y^2 = x^3 + 7) in affine coordinates: what tables are built with.
#pragma once

#include <optional>
#include <span>

#include "ticket/field.h"
#include "ticket/recovery.h"

namespace lpnode::ticket {

// A finite point, coordinates below p. A row of a table: one cache line.
struct alignas(64) Point {
  Uint256 x, y;
};

// Source: SEC 2, section 2.4.1.
inline constexpr Point kGenerator{
    {{0x59F2815B16F81798, 0x029BFCDB2DCE28D9, 0x55A06295CE870B07, 0x79BE667EF9DCBBAC}},
    {{0x9C47D08FFB10D4B8, 0xFD17B448A6855419, 0x5DA4FBFC0E1108A8, 0x483ADA7726A3C465}}};

// Throws InvalidArgument if the key is no point of the curve.
[[nodiscard]] Point to_point(const PublicKey& key);

[[nodiscard]] Point negated(const Point& point) noexcept;

// One inversion each, about 1.5 us.
[[nodiscard]] Point doubled(const Point& point) noexcept;
// Nothing is the point at infinity.
[[nodiscard]] std::optional<Point> sum(const std::optional<Point>& a,
                                       const std::optional<Point>& b) noexcept;
[[nodiscard]] std::optional<Point> multiple(const Point& point, const Uint256& scalar) noexcept;

// Rows at first, first + step, first + 2 step, ...
struct Progression {
  Point first;
  Point step;
  std::span<Point> rows;
};

// Fills all rows, the progressions side by side with one inversion a step.
// Throws InvalidArgument if two added points have the same x, which no honest input gives.
void fill(std::span<const Progression> progressions);

}  // namespace lpnode::ticket
