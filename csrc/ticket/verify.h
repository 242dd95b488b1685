// Verification of the tickets of one payment: exactly the contract's answer for each.
// Source: payments.md sections 1.4 (signature), 1.6 (winning draw), 8 (throughput).
#pragma once

#include <optional>
#include <span>

#include "ticket/recovery.h"
#include "ticket/ticket_hash.h"

namespace lpnode::ticket {

// Bits of a ticket's verdict.
inline constexpr uint8_t kValid = 1;     // signed by the sender, in the accepted form
inline constexpr uint8_t kWon = 2;       // valid, and the draw is below the winning probability
inline constexpr uint8_t kRecovered = 4;  // the signer was recovered, and not found in tables

// One sender's tickets, which differ in nonce and signature alone. Borrowed for the call.
struct Payment {
  std::span<const uint8_t> preimage;  // packed ticket, 168 or 232 bytes; its nonce does not matter
  AddressBytes sender;
  std::optional<Hash32> recipient_rand;  // nothing: nobody draws, no ticket wins
  Uint256 win_prob;
  std::span<const uint32_t> nonces;     // N
  std::span<const uint8_t> signatures;  // N rows of 65 bytes
};

// Writes a verdict for each ticket. Returns the sender's public key if a ticket's signer was
// recovered and is the sender. Does not allocate. Any thread.
// Throws InvalidArgument if the lengths do not fit. A bad signature is a verdict, not an error.
std::optional<PublicKey> verify_tickets(const Secp256k1& secp256k1, const Payment& payment,
                                        SimdPath path, std::span<uint8_t> verdicts);

}  // namespace lpnode::ticket
