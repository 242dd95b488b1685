#include "ticket/recovery.h"

#include <algorithm>

namespace lpnode::ticket {
namespace {

// SECP256K1_EC_UNCOMPRESSED
constexpr unsigned kUncompressed = 1u << 1;

}  // namespace

std::optional<PublicKey> recover(const Secp256k1& secp256k1, const Hash32& digest,
                                 const uint8_t* signature65) noexcept {
  // Opaque values of libsecp256k1: 65 and 64 bytes, part of its binary interface.
  alignas(16) uint8_t signature[65];
  alignas(16) uint8_t key[64];
  if (!secp256k1.parse_compact(secp256k1.context, signature, signature65, signature65[64] - 27))
    return std::nullopt;
  if (!secp256k1.recover(secp256k1.context, key, signature, digest.data())) return std::nullopt;
  uint8_t serialized[65];
  size_t size = sizeof serialized;
  if (!secp256k1.serialize(secp256k1.context, serialized, &size, key, kUncompressed))
    return std::nullopt;
  PublicKey recovered;
  std::copy_n(serialized + 1, recovered.size(), recovered.begin());
  return recovered;
}

AddressBytes address_of(const PublicKey& key) noexcept {
  const Hash32 digest = keccak256(key);
  AddressBytes address;
  std::copy(digest.begin() + 12, digest.end(), address.begin());
  return address;
}

}  // namespace lpnode::ticket
