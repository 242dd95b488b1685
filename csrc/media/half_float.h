// IEEE 754 binary16 in software, for machines and files without conversion instructions.
#pragma once

#include <bit>
#include <cstdint>

#include "media/half.h"

namespace lpnode::media {

// Rounds to nearest even; overflow becomes infinity, NaN stays NaN. All cases are computed and one
// is picked, so that compilers vectorise loops over it.
inline Half to_half(float value) noexcept {
  const auto bits = std::bit_cast<uint32_t>(value);
  const auto magnitude = static_cast<int32_t>(bits & 0x7fffffff);
  const int32_t round_to_even = 0xfff + ((magnitude >> 13) & 1);
  const int32_t normal = (magnitude - 0x38000000 + round_to_even) >> 13;
  // Below 2^-14 the result is subnormal: adding 0.5 aligns its last place with the sum's, so the
  // addition itself rounds.
  const float aligned = std::bit_cast<float>(magnitude) + 0.5f;
  const int32_t subnormal = std::bit_cast<int32_t>(aligned) - 0x3f000000;
  int32_t half = magnitude < 0x38800000 ? subnormal : normal;
  half = magnitude >= 0x477ff000 ? 0x7c00 : half;  // 65520 and above
  half = magnitude > 0x7f800000 ? 0x7e00 : half;
  return {static_cast<uint16_t>(half | static_cast<int32_t>((bits >> 16) & 0x8000))};
}

inline float to_float(Half half) noexcept {
  const int32_t magnitude = half.bits & 0x7fff;
  const int32_t subnormal = std::bit_cast<int32_t>(static_cast<float>(magnitude) * 0x1p-24f);
  int32_t bits = magnitude < 0x0400 ? subnormal : (magnitude << 13) + 0x38000000;
  bits = magnitude >= 0x7c00 ? (magnitude << 13) | 0x7f800000 : bits;
  return std::bit_cast<float>(static_cast<uint32_t>(bits) |
                              (static_cast<uint32_t>(half.bits & 0x8000) << 16));
}

}  // namespace lpnode::media
