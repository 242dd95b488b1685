// What is hashed for a ticket, up to eight tickets at a time.
// Source: payments.md sections 1.2 (ticket hash), 1.4 (EIP-191), 1.6 (winning draw).
#pragma once

#include <span>

#include "ticket/keccak256.h"
#include "ticket/keccak_lanes.h"
#include "ticket/signature.h"

namespace lpnode::ticket {

inline constexpr size_t kPreimageBytes = 168;         // without auxiliary data
inline constexpr size_t kPreimageWithAuxBytes = 232;  // with it

// Hashes of the tickets of one payment: same preimage but for the nonce.
class TicketHasher {
 public:
  // preimage: the packed ticket, 168 or 232 bytes; its nonce does not matter.
  // Throws InvalidArgument for another length.
  TicketHasher(std::span<const uint8_t> preimage, SimdPath path);

  // digests[i] = what is signed for the ticket of nonces[i]. At most kLanes of them.
  void digests(std::span<const uint32_t> nonces, Hash32* digests) const noexcept;

  // draws[i] = keccak(signature i | rand); signatures: rows of 65 bytes, at most kLanes of them.
  void draws(std::span<const uint8_t> signatures, const Hash32& recipient_rand,
             Uint256* draws) const noexcept;

  // Both, for as many nonces as signatures; quicker than one after the other for four and fewer.
  void digests_and_draws(std::span<const uint32_t> nonces, std::span<const uint8_t> signatures,
                         const Hash32& recipient_rand, Hash32* digests,
                         Uint256* draws) const noexcept;

 private:
  void begin_tickets(std::span<const uint32_t> nonces, KeccakLanes& lanes) const noexcept;
  void finish_digests(size_t count, KeccakLanes& lanes, Hash32* digests) const noexcept;

  PermuteLanes permute_;
  uint64_t first_block_[kKeccakRateBytes / 8];
  uint64_t second_block_[kKeccakRateBytes / 8];
};

}  // namespace lpnode::ticket
