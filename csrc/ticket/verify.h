// Verification of the tickets of one payment: exactly the contract's answer for each.
// Source: payments.md sections 1.4 (signature), 1.6 (winning draw), 8 (throughput).
//
// Note [Accept only]: a known signer's tables may only accept a ticket. What they do not accept is
// recovered and compared, and that answer is final. They accept if and only if R = u1 G + u2 P has
// x = r and the parity of v, which is what recovery solves for P: both ways give the same answer.
#pragma once

#include <optional>
#include <span>

#include "ticket/known_signer.h"
#include "ticket/recovery.h"
#include "ticket/ticket_hash.h"

namespace lpnode::ticket {

// Bits of a ticket's verdict.
inline constexpr uint8_t kValid = 1;      // signed by the sender, in the accepted form
inline constexpr uint8_t kWon = 2;        // valid, and the draw is below the winning probability
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

// The tables of a payment's sender: made from a key that was recovered, and whose address it is.
struct KnownSigner {
  const GeneratorTable& generator;
  const SignerTable& table;
};

class Verifier {
 public:
  Verifier(const Secp256k1& secp256k1, SimdPath path) noexcept
      : secp256k1_(secp256k1), path_(path), check_claims_(check_claims(path)) {}

  // Writes a verdict for each ticket; `signer` may be null. Returns the sender's public key if a
  // ticket's signer was recovered and is the sender. Does not allocate. Any thread.
  // Throws InvalidArgument if the lengths do not fit. A bad signature is a verdict, not an error.
  std::optional<PublicKey> verify(const Payment& payment, const KnownSigner* signer,
                                  std::span<uint8_t> verdicts) const;

 private:
  void accept_known(const KnownSigner& signer, std::span<const Hash32> digests,
                    std::span<const uint8_t> signatures,
                    std::span<uint8_t> verdicts) const noexcept;

  Secp256k1 secp256k1_;
  SimdPath path_;
  CheckClaims check_claims_;
};

}  // namespace lpnode::ticket
