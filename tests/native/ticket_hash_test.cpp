// Eight states at once against one, and what is hashed of a ticket against plain concatenation.
#include "ticket/ticket_hash.h"

#include <algorithm>
#include <random>
#include <vector>

#include "check.h"
#include "error.h"

using lpnode::SimdPath;
using namespace lpnode::ticket;

namespace {

std::mt19937_64 random_words(7);

std::vector<uint8_t> random_bytes(size_t count) {
  std::vector<uint8_t> bytes(count);
  std::generate(bytes.begin(), bytes.end(), [] { return static_cast<uint8_t>(random_words()); });
  return bytes;
}

std::vector<SimdPath> paths() {
  std::vector<SimdPath> all(std::begin(kTicketPaths), std::end(kTicketPaths));
  std::erase_if(all, [](SimdPath path) { return !runs(path); });
  return all;
}

Hash32 plain_digest(std::vector<uint8_t> preimage, uint32_t nonce) {
  std::fill_n(preimage.begin() + 104, 28, uint8_t{0});
  for (int i = 0; i < 4; ++i) preimage[132 + i] = static_cast<uint8_t>(nonce >> (24 - 8 * i));
  const Hash32 hash = keccak256(preimage);
  std::vector<uint8_t> message{0x19};
  for (const char letter : std::string_view("Ethereum Signed Message:\n32"))
    message.push_back(static_cast<uint8_t>(letter));
  message.insert(message.end(), hash.begin(), hash.end());
  return keccak256(message);
}

void every_path_permutes_like_one_state() {
  for (const SimdPath path : paths()) {
    for (size_t count = 1; count <= kLanes; ++count) {
      KeccakLanes lanes, expected;
      for (auto& word : lanes.word)
        for (uint64_t& lane : word) lane = random_words();
      expected = lanes;
      permute_lanes_portable(expected, kLanes);
      permute_lanes(path)(lanes, count);
      for (size_t w = 0; w < kKeccakWords; ++w)
        CHECK(std::equal(lanes.word[w], lanes.word[w] + count, expected.word[w]));
    }
  }
}

void digests_and_draws_are_those_of_the_bytes() {
  for (const SimdPath path : paths()) {
    for (const size_t size : {kPreimageBytes, kPreimageWithAuxBytes}) {
      std::vector<uint8_t> preimage = random_bytes(size);
      std::fill_n(preimage.begin() + 104, 28, uint8_t{0});
      const TicketHasher hasher(preimage, path);
      for (size_t count = 1; count <= kLanes; ++count) {
        std::vector<uint32_t> nonces(count);
        for (uint32_t& nonce : nonces) nonce = static_cast<uint32_t>(random_words());
        nonces[0] = count % 2 ? 0 : ~uint32_t{0};
        Hash32 digests[kLanes];
        hasher.digests(nonces, digests);
        for (size_t i = 0; i < count; ++i) CHECK(digests[i] == plain_digest(preimage, nonces[i]));

        const std::vector<uint8_t> signatures = random_bytes(count * kSignatureBytes);
        Hash32 rand;
        std::ranges::copy(random_bytes(rand.size()), rand.begin());
        Uint256 draws[kLanes];
        hasher.draws(signatures, rand, draws);
        for (size_t i = 0; i < count; ++i) {
          const auto row = signatures.begin() + static_cast<ptrdiff_t>(i * kSignatureBytes);
          std::vector<uint8_t> message(row, row + kSignatureBytes);
          message.insert(message.end(), rand.begin(), rand.end());
          CHECK(draws[i] == from_big_endian(keccak256(message).data()));
        }

        Hash32 same_digests[kLanes];
        Uint256 same_draws[kLanes];
        hasher.digests_and_draws(nonces, signatures, rand, same_digests, same_draws);
        CHECK(std::equal(digests, digests + count, same_digests));
        CHECK(std::equal(draws, draws + count, same_draws));
      }
    }
  }
}

void other_preimages_are_refused() {
  for (const size_t size : {size_t{0}, size_t{167}, size_t{169}, size_t{231}, size_t{233}})
    CHECK_THROWS(TicketHasher(random_bytes(size), SimdPath::kPortable), lpnode::InvalidArgument);
}

}  // namespace

int main() {
  every_path_permutes_like_one_state();
  digests_and_draws_are_those_of_the_bytes();
  other_preimages_are_refused();
  return lpnode::test::finish();
}
