// IEEE 754 binary16 in software, for machines and files without conversion instructions.
#pragma once

#include <bit>
#include <cstdint>

#include "media/half.h"

namespace lpnode::media {

// Rounds to nearest even; overflow becomes infinity, NaN stays NaN.
inline Half to_half(float value) noexcept {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000);
  const uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return {static_cast<uint16_t>(sign | 0x7e00)};
  if (magnitude >= 0x477ff000) return {static_cast<uint16_t>(sign | 0x7c00)};  // rounds to >= 65520
  if (magnitude < 0x38800000) {
    // Below 2^-14 the result is subnormal: adding 0.5 aligns its last place with the sum's, so the
    // addition itself rounds.
    const float aligned = std::bit_cast<float>(magnitude) + 0.5f;
    return {static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(aligned) - 0x3f000000))};
  }
  const uint32_t round_to_even = 0xfff + ((magnitude >> 13) & 1);
  return {static_cast<uint16_t>(sign | ((magnitude - 0x38000000 + round_to_even) >> 13))};
}

inline float to_float(Half half) noexcept {
  const uint32_t sign = static_cast<uint32_t>(half.bits & 0x8000) << 16;
  const uint32_t magnitude = half.bits & 0x7fff;
  uint32_t bits;
  if (magnitude >= 0x7c00) {
    bits = (magnitude << 13) | 0x7f800000;
  } else if (magnitude >= 0x0400) {
    bits = (magnitude << 13) + 0x38000000;
  } else {
    bits = std::bit_cast<uint32_t>(static_cast<float>(magnitude) * 0x1p-24f);
  }
  return std::bit_cast<float>(sign | bits);
}

}  // namespace lpnode::media
