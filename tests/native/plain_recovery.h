// Recovery by plain_curve.h, behind the interface of libsecp256k1.
#pragma once

#include <algorithm>
#include <cstring>

#include "plain_curve.h"
#include "ticket/recovery.h"

namespace lpnode::test {

// The opaque values of the interface, as this file fills them.
inline int parse_compact(const void*, void* signature, const uint8_t* bytes64, int id) {
  std::memcpy(signature, bytes64, 64);
  static_cast<uint8_t*>(signature)[64] = static_cast<uint8_t>(id);
  return from_big_endian(bytes64) < kOrder && from_big_endian(bytes64 + 32) < kOrder;
}

inline int recover_plainly(const void*, void* key, const void* signature, const uint8_t* digest32) {
  const auto* bytes = static_cast<const uint8_t*>(signature);
  const Uint256 r = from_big_endian(bytes), s = from_big_endian(bytes + 32);
  if (r.is_zero() || s.is_zero()) return 0;
  const auto big_r = point_at(r, bytes[64] & 1);
  if (!big_r) return 0;
  const auto signer = signer_of(*big_r, r, s, from_big_endian(digest32));
  if (!signer) return 0;
  const PublicKey recovered = key_of(*signer);
  std::copy(recovered.begin(), recovered.end(), static_cast<uint8_t*>(key));
  return 1;
}

inline int serialize_uncompressed(const void*, uint8_t* out, size_t* size, const void* key, unsigned) {
  if (*size < 65) return 0;
  *size = 65;
  out[0] = 4;
  std::memcpy(out + 1, key, 64);
  return 1;
}

inline const Secp256k1 kPlain{nullptr, parse_compact, recover_plainly, serialize_uncompressed};

}  // namespace lpnode::test
