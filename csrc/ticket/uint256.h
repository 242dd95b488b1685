// 256-bit unsigned integers as four 64-bit limbs, least significant first.
//
// Note [Always inline]: files for different instruction sets share these functions and those of
// field.h. Each gets its own copies: of one shared copy the linker would keep any, perhaps one with
// instructions that this machine does not have.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <cstring>

namespace lpnode::ticket {

// Of any value until it gets one, as the buffers of hot paths are not all used: say {} for zero.
struct Uint256 {
  std::array<uint64_t, 4> limb;

  friend constexpr bool operator==(const Uint256&, const Uint256&) = default;
  [[gnu::always_inline]] friend constexpr std::strong_ordering operator<=>(
      const Uint256& a, const Uint256& b) noexcept {
    for (int i = 3; i > 0; --i)
      if (a.limb[i] != b.limb[i]) return a.limb[i] <=> b.limb[i];
    return a.limb[0] <=> b.limb[0];
  }
  [[nodiscard, gnu::always_inline]] constexpr bool is_zero() const noexcept {
    return (limb[0] | limb[1] | limb[2] | limb[3]) == 0;
  }
};

// Reads 32 bytes, most significant first.
[[nodiscard, gnu::always_inline]] inline Uint256 from_big_endian(const uint8_t* bytes32) noexcept {
  Uint256 value;
  for (int i = 0; i < 4; ++i) {
    uint64_t word;
    std::memcpy(&word, bytes32 + 8 * (3 - i), 8);
    value.limb[i] = __builtin_bswap64(word);
  }
  return value;
}

// Writes 32 bytes, most significant first.
[[gnu::always_inline]] inline void to_big_endian(const Uint256& value, uint8_t* bytes32) noexcept {
  for (int i = 0; i < 4; ++i) {
    const uint64_t word = __builtin_bswap64(value.limb[i]);
    std::memcpy(bytes32 + 8 * (3 - i), &word, 8);
  }
}

// out = a + b mod 2^256; returns the carry.
[[gnu::always_inline]] constexpr bool add_with_carry(const Uint256& a, const Uint256& b,
                                                     Uint256& out) noexcept {
  unsigned __int128 sum = 0;
  for (int i = 0; i < 4; ++i) {
    sum += static_cast<unsigned __int128>(a.limb[i]) + b.limb[i];
    out.limb[i] = static_cast<uint64_t>(sum);
    sum >>= 64;
  }
  return sum != 0;
}

// out = a - b mod 2^256; returns the borrow.
[[gnu::always_inline]] constexpr bool subtract_with_borrow(const Uint256& a, const Uint256& b,
                                                           Uint256& out) noexcept {
  unsigned __int128 difference = 0;
  for (int i = 0; i < 4; ++i) {
    difference = static_cast<unsigned __int128>(a.limb[i]) - b.limb[i] -
                 (static_cast<uint64_t>(difference >> 64) & 1);
    out.limb[i] = static_cast<uint64_t>(difference);
  }
  return (difference >> 64) != 0;
}

}  // namespace lpnode::ticket
