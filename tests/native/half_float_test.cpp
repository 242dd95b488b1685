#include "media/half_float.h"

#include <cmath>
#include <limits>

#include "check.h"

using lpnode::media::Half;
using lpnode::media::to_float;
using lpnode::media::to_half;

namespace {

// The value that the bits stand for, computed from the definition.
double value_of(uint16_t bits) {
  const int exponent = (bits >> 10) & 31, fraction = bits & 0x3ff;
  const double magnitude =
      exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  return bits & 0x8000 ? -magnitude : magnitude;
}

void every_finite_half_has_its_value_and_comes_back() {
  for (int bits = 0; bits < 0x10000; ++bits) {
    if (((bits >> 10) & 31) == 31) continue;
    const Half half{static_cast<uint16_t>(bits)};
    CHECK(to_float(half) == value_of(half.bits));
    CHECK(to_half(to_float(half)).bits == half.bits);
  }
}

void middles_round_to_even_and_their_neighbours_to_the_nearer() {
  for (uint16_t bits = 0; bits < 0x7bff; ++bits) {
    const double low = value_of(bits), high = value_of(bits + 1);
    const auto middle = static_cast<float>((low + high) / 2);
    const uint16_t even = bits % 2 == 0 ? bits : bits + 1;
    CHECK(to_half(middle).bits == even);
    CHECK(to_half(std::nextafter(middle, 0.0f)).bits == bits);
    CHECK(to_half(std::nextafter(middle, 1e9f)).bits == bits + 1);
    CHECK(to_half(-middle).bits == (even | 0x8000));
  }
}

void what_has_no_finite_half_is_infinite_or_not_a_number() {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  CHECK(to_half(65519.996f).bits == 0x7bff);
  CHECK(to_half(65520.0f).bits == 0x7c00);
  CHECK(to_half(-kInfinity).bits == 0xfc00);
  CHECK(to_float(Half{0x7c00}) == kInfinity);
  CHECK(to_float(Half{0xfc00}) == -kInfinity);
  CHECK(std::isnan(to_float(to_half(std::numeric_limits<float>::quiet_NaN()))));
}

}  // namespace

int main() {
  every_finite_half_has_its_value_and_comes_back();
  middles_round_to_even_and_their_neighbours_to_the_nearer();
  what_has_no_finite_half_is_infinite_or_not_a_number();
  return lpnode::test::finish();
}
