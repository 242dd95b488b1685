#include "ticket/verify.h"

#include <algorithm>
#include <string>

#include "error.h"

namespace lpnode::ticket {
namespace {

void check_lengths(const Payment& payment, size_t num_verdicts) {
  const size_t count = payment.nonces.size();
  if (payment.signatures.size() != count * kSignatureBytes || num_verdicts != count)
    throw InvalidArgument("expected 65 bytes of signature for each of " + std::to_string(count) +
                          " nonces, got " + std::to_string(payment.signatures.size()) + " bytes");
}

void draw(const TicketHasher& hasher, const Payment& payment, std::span<const uint8_t> signatures,
          std::span<uint8_t> verdicts) noexcept {
  Uint256 draws[kLanes];
  hasher.draws(signatures, *payment.recipient_rand, draws);
  for (size_t i = 0; i < verdicts.size(); ++i)
    if ((verdicts[i] & kValid) && draws[i] < payment.win_prob) verdicts[i] |= kWon;
}

}  // namespace

std::optional<PublicKey> verify_tickets(const Secp256k1& secp256k1, const Payment& payment,
                                        SimdPath path, std::span<uint8_t> verdicts) {
  check_lengths(payment, verdicts.size());
  const TicketHasher hasher(payment.preimage, path);
  std::optional<PublicKey> sender_key;
  for (size_t first = 0; first < verdicts.size(); first += kLanes) {
    const size_t count = std::min(kLanes, verdicts.size() - first);
    const auto signatures =
        payment.signatures.subspan(first * kSignatureBytes, count * kSignatureBytes);
    const auto group = verdicts.subspan(first, count);
    Hash32 digests[kLanes];
    hasher.digests(payment.nonces.subspan(first, count), digests);
    for (size_t i = 0; i < count; ++i) {
      group[i] = 0;
      const uint8_t* signature = signatures.data() + i * kSignatureBytes;
      if (!parse_signature(signature)) continue;
      group[i] = kRecovered;
      const auto key = recover(secp256k1, digests[i], signature);
      if (!key || address_of(*key) != payment.sender) continue;
      group[i] |= kValid;
      sender_key = key;
    }
    if (payment.recipient_rand) draw(hasher, payment, signatures, group);
  }
  return sender_key;
}

}  // namespace lpnode::ticket
