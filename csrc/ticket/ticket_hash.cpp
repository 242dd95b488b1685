#include "ticket/ticket_hash.h"

#include <algorithm>
#include <string>

#include "error.h"

namespace lpnode::ticket {
namespace {

constexpr size_t kRateWords = kKeccakRateBytes / 8;
constexpr size_t kNonceWord = 16;  // bytes 128..135: zeros, then the nonce
constexpr size_t kDrawBytes = kSignatureBytes + 32;

// "\x19Ethereum Signed Message:\n32" is 28 bytes: three words and a half.
constexpr uint8_t kPersonalPrefix[28] = {0x19, 'E', 't', 'h', 'e', 'r', 'e', 'u', 'm', ' ',
                                         'S',  'i', 'g', 'n', 'e', 'd', ' ', 'M', 'e', 's',
                                         's',  'a', 'g', 'e', ':', '\n', '3', '2'};

uint64_t load_word(const uint8_t* bytes) noexcept {
  uint64_t word;
  std::memcpy(&word, bytes, 8);
  return word;
}

Hash32 digest_of(const KeccakLanes& lanes, size_t lane) noexcept {
  Hash32 digest;
  for (size_t w = 0; w < 4; ++w) std::memcpy(digest.data() + 8 * w, &lanes.word[w][lane], 8);
  return digest;
}

// One block: 65 bytes of signature, the rand, padding.
void begin_draw(const uint8_t* signature, const Hash32& recipient_rand, size_t lane,
                KeccakLanes& lanes) noexcept {
  uint8_t block[kKeccakRateBytes] = {};
  std::copy_n(signature, kSignatureBytes, block);
  std::copy(recipient_rand.begin(), recipient_rand.end(), block + kSignatureBytes);
  block[kDrawBytes] = 0x01;
  block[sizeof block - 1] = 0x80;
  for (size_t w = 0; w < kRateWords; ++w) lanes.word[w][lane] = load_word(block + 8 * w);
}

}  // namespace

TicketHasher::TicketHasher(std::span<const uint8_t> preimage, SimdPath path)
    : permute_(permute_lanes(path)) {
  if (preimage.size() != kPreimageBytes && preimage.size() != kPreimageWithAuxBytes)
    throw InvalidArgument("a ticket's preimage is 168 or 232 bytes, got " +
                          std::to_string(preimage.size()));
  uint8_t padded[2 * kKeccakRateBytes] = {};
  std::copy(preimage.begin(), preimage.end(), padded);
  padded[preimage.size()] = 0x01;
  padded[sizeof padded - 1] |= 0x80;
  for (size_t w = 0; w < kRateWords; ++w) {
    first_block_[w] = load_word(padded + 8 * w);
    second_block_[w] = load_word(padded + kKeccakRateBytes + 8 * w);
  }
}

void TicketHasher::digests(std::span<const uint32_t> nonces, Hash32* digests) const noexcept {
  KeccakLanes lanes;
  begin_tickets(nonces, lanes);
  permute_(lanes, nonces.size());
  finish_digests(nonces.size(), lanes, digests);
}

void TicketHasher::draws(std::span<const uint8_t> signatures, const Hash32& recipient_rand,
                         Uint256* draws) const noexcept {
  const size_t count = signatures.size() / kSignatureBytes;
  KeccakLanes lanes;
  for (size_t i = 0; i < count; ++i)
    begin_draw(signatures.data() + i * kSignatureBytes, recipient_rand, i, lanes);
  permute_(lanes, count);
  for (size_t i = 0; i < count; ++i) draws[i] = from_big_endian(digest_of(lanes, i).data());
}

void TicketHasher::digests_and_draws(std::span<const uint32_t> nonces,
                                     std::span<const uint8_t> signatures,
                                     const Hash32& recipient_rand, Hash32* digests,
                                     Uint256* draws) const noexcept {
  const size_t count = nonces.size();
  if (2 * count > kLanes) {
    this->digests(nonces, digests);
    this->draws(signatures, recipient_rand, draws);
    return;
  }
  // Draws take the lanes that few tickets leave free in their first permutation.
  KeccakLanes lanes;
  begin_tickets(nonces, lanes);
  for (size_t i = 0; i < count; ++i)
    begin_draw(signatures.data() + i * kSignatureBytes, recipient_rand, count + i, lanes);
  permute_(lanes, 2 * count);
  for (size_t i = 0; i < count; ++i)
    draws[i] = from_big_endian(digest_of(lanes, count + i).data());
  finish_digests(count, lanes, digests);
}

void TicketHasher::begin_tickets(std::span<const uint32_t> nonces,
                                 KeccakLanes& lanes) const noexcept {
  for (size_t w = 0; w < kRateWords; ++w) std::fill_n(lanes.word[w], kLanes, first_block_[w]);
  for (size_t i = 0; i < nonces.size(); ++i)
    lanes.word[kNonceWord][i] = uint64_t{__builtin_bswap32(nonces[i])} << 32;
}

void TicketHasher::finish_digests(size_t count, KeccakLanes& lanes,
                                  Hash32* digests) const noexcept {
  for (size_t w = 0; w < kRateWords; ++w)
    for (uint64_t& word : lanes.word[w]) word ^= second_block_[w];
  permute_(lanes, count);

  KeccakLanes personal;
  uint8_t block[kKeccakRateBytes] = {};
  std::copy(std::begin(kPersonalPrefix), std::end(kPersonalPrefix), block);
  block[sizeof kPersonalPrefix + 32] = 0x01;
  block[sizeof block - 1] = 0x80;
  for (size_t w = 0; w < kRateWords; ++w)
    std::fill_n(personal.word[w], kLanes, load_word(block + 8 * w));
  for (size_t i = 0; i < count; ++i) {  // the hash begins in the middle of word 3
    for (size_t w = 0; w < 4; ++w) {
      personal.word[w + 3][i] |= lanes.word[w][i] << 32;
      personal.word[w + 4][i] |= lanes.word[w][i] >> 32;
    }
  }
  permute_(personal, count);
  for (size_t i = 0; i < count; ++i) digests[i] = digest_of(personal, i);
}

}  // namespace lpnode::ticket
