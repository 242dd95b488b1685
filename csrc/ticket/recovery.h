// Public key recovery by libsecp256k1, whose functions the caller hands in by address.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "ticket/keccak256.h"

namespace lpnode::ticket {

using PublicKey = std::array<uint8_t, 64>;  // x | y, big-endian
using AddressBytes = std::array<uint8_t, 20>;

// Functions of libsecp256k1's stable interface (secp256k1.h, secp256k1_recovery.h), and a context
// of it that nobody randomises or destroys meanwhile.
struct Secp256k1 {
  const void* context;
  int (*parse_compact)(const void* context, void* signature, const uint8_t* bytes64, int id);
  int (*recover)(const void* context, void* key, const void* signature, const uint8_t* digest32);
  int (*serialize)(const void* context, uint8_t* out, size_t* out_size, const void* key,
                   unsigned flags);
};

// The key that made `signature65` over `digest`. The form must have been checked (signature.h).
// Nothing when r is no x coordinate of the curve. Any thread.
[[nodiscard]] std::optional<PublicKey> recover(const Secp256k1& secp256k1, const Hash32& digest,
                                               const uint8_t* signature65) noexcept;

// The last 20 bytes of the key's Keccak-256.
[[nodiscard]] AddressBytes address_of(const PublicKey& key) noexcept;

}  // namespace lpnode::ticket
