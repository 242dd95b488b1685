// The one accepted form of a ticket's signature: 65 bytes r(32) | s(32) | v(1).
// Source: payments.md section 1.4 (go-livepeer's VerifySig and the contract's ECDSA 4.4.1 agree).
#pragma once

#include <optional>

#include "ticket/uint256.h"

namespace lpnode::ticket {

inline constexpr size_t kSignatureBytes = 65;

// The order of the curve secp256k1, and half of it rounded down. Source: SEC 2, section 2.4.1.
inline constexpr Uint256 kOrder{
    {0xBFD25E8CD0364141, 0xBAAEDCE6AF48A03B, 0xFFFFFFFFFFFFFFFE, 0xFFFFFFFFFFFFFFFF}};
inline constexpr Uint256 kHalfOrder{
    {0xDFE92F46681B20A0, 0x5D576E7357A4501D, 0xFFFFFFFFFFFFFFFF, 0x7FFFFFFFFFFFFFFF}};

struct Signature {
  Uint256 r;
  Uint256 s;
  bool y_is_odd;  // of the point R, v - 27
};

// The parts of a signature in the accepted form: v is 27 or 28, 0 < r < n, 0 < s <= n/2.
// Nothing is normalised: other forms verify nowhere.
[[nodiscard]] inline std::optional<Signature> parse_signature(const uint8_t* bytes65) noexcept {
  const uint8_t v = bytes65[64];
  if (v != 27 && v != 28) return std::nullopt;
  const Signature signature{from_big_endian(bytes65), from_big_endian(bytes65 + 32), v == 28};
  if (signature.s.is_zero() || signature.s > kHalfOrder) return std::nullopt;
  if (signature.r.is_zero() || signature.r >= kOrder) return std::nullopt;
  return signature;
}

}  // namespace lpnode::ticket
