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

}  // namespace

void Verifier::accept_known(const KnownSigner& signer, std::span<const Hash32> digests,
                            std::span<const uint8_t> signatures,
                            std::span<uint8_t> verdicts) const noexcept {
  Hash32 claimed_digests[kMaxClaims];
  Signature claimed_signatures[kMaxClaims];
  size_t tickets[kMaxClaims];
  size_t count = 0;
  for (size_t i = 0; i < verdicts.size(); ++i) {
    const auto signature = parse_signature(signatures.data() + i * kSignatureBytes);
    if (!signature) continue;
    claimed_digests[count] = digests[i];
    claimed_signatures[count] = *signature;
    tickets[count++] = i;
  }
  if (count == 0) return;
  Claim claims[kMaxClaims];
  uint8_t accepted[kMaxClaims];
  const std::span some(claims, count);
  list_claims({claimed_digests, count}, {claimed_signatures, count}, some);
  check_claims_(signer.generator, signer.table, some, {accepted, count});
  for (size_t i = 0; i < count; ++i)
    if (accepted[i]) verdicts[tickets[i]] = kValid;
}

std::optional<PublicKey> Verifier::verify(const Payment& payment, const KnownSigner* signer,
                                          std::span<uint8_t> verdicts) const {
  check_lengths(payment, verdicts.size());
  const TicketHasher hasher(payment.preimage, path_);
  std::optional<PublicKey> sender_key;
  for (size_t first = 0; first < verdicts.size(); first += kMaxClaims) {
    const size_t count = std::min(kMaxClaims, verdicts.size() - first);
    const auto signatures =
        payment.signatures.subspan(first * kSignatureBytes, count * kSignatureBytes);
    const auto chunk = verdicts.subspan(first, count);
    Hash32 digests[kMaxClaims];
    Uint256 draws[kMaxClaims];
    for (size_t i = 0; i < count; i += kLanes) {
      const size_t few = std::min(kLanes, count - i);
      const auto nonces = payment.nonces.subspan(first + i, few);
      const auto rows = signatures.subspan(i * kSignatureBytes, few * kSignatureBytes);
      if (payment.recipient_rand)
        hasher.digests_and_draws(nonces, rows, *payment.recipient_rand, digests + i, draws + i);
      else
        hasher.digests(nonces, digests + i);
    }
    std::fill(chunk.begin(), chunk.end(), uint8_t{0});
    if (signer) accept_known(*signer, {digests, count}, signatures, chunk);
    for (size_t i = 0; i < count; ++i) {
      const uint8_t* signature = signatures.data() + i * kSignatureBytes;
      if (chunk[i] || !parse_signature(signature)) continue;
      chunk[i] = kRecovered;
      const auto key = recover(secp256k1_, digests[i], signature);
      if (!key || address_of(*key) != payment.sender) continue;
      chunk[i] |= kValid;
      sender_key = key;
    }
    if (!payment.recipient_rand) continue;
    for (size_t i = 0; i < count; ++i)
      if ((chunk[i] & kValid) && draws[i] < payment.win_prob) chunk[i] |= kWon;
  }
  return sender_key;
}

}  // namespace lpnode::ticket
