// Keccak-256 as Ethereum uses it: rate 1088, original padding 0x01 (not SHA3-256's 0x06).
// Source: The Keccak reference, version 3.0, and FIPS 202 section 3.
#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace lpnode::ticket {

using Hash32 = std::array<uint8_t, 32>;

// The digest of `message`, of any length. Does not allocate.
[[nodiscard]] Hash32 keccak256(std::span<const uint8_t> message) noexcept;

}  // namespace lpnode::ticket
