// Whole payments: verdicts with tables, without them and by the plain curve are the same.
#include "ticket/verify.h"

#include <algorithm>
#include <vector>

#include "check.h"
#include "error.h"
#include "plain_recovery.h"

using lpnode::SimdPath;
using namespace lpnode::ticket;
using namespace lpnode::test;

namespace {

Numbers numbers(99);

void sign(const Uint256& key, const Hash32& digest, uint8_t* bytes65) {
  for (;;) {
    const Uint256 k = numbers.scalar();
    const Point point = *multiple(kGenerator, k);
    if (point.x >= kOrder) continue;
    const Uint256 sum = order_subtract(order_multiply(point.x, key),
                                       order_negate(from_big_endian(digest.data())));
    Uint256 s = order_multiply(sum, order_inverse(k));
    bool is_odd = point.y.limb[0] & 1;
    if (s > kHalfOrder) {
      s = order_negate(s);
      is_odd = !is_odd;
    }
    if (s.is_zero()) continue;
    to_big_endian(point.x, bytes65);
    to_big_endian(s, bytes65 + 32);
    bytes65[64] = is_odd ? 28 : 27;
    return;
  }
}

struct Tickets {
  std::vector<uint8_t> preimage = std::vector<uint8_t>(kPreimageWithAuxBytes);
  PublicKey key;
  AddressBytes sender;
  std::vector<uint32_t> nonces;
  std::vector<uint8_t> signatures;

  Tickets(const Uint256& secret, size_t count) : key(key_of(*multiple(kGenerator, secret))) {
    sender = address_of(key);
    for (size_t i = 0; i < preimage.size(); ++i)
      if (i < 104 || i >= 136) preimage[i] = static_cast<uint8_t>(numbers.word());
    std::copy(sender.begin(), sender.end(), preimage.begin() + 20);
    const TicketHasher hasher(preimage, SimdPath::kPortable);
    signatures.resize(count * kSignatureBytes);
    for (size_t i = 0; i < count; ++i) {
      nonces.push_back(static_cast<uint32_t>(i));
      Hash32 digest;
      hasher.digests({&nonces.back(), 1}, &digest);
      sign(secret, digest, signatures.data() + i * kSignatureBytes);
    }
  }

  Payment payment(const std::optional<Hash32>& rand, const Uint256& win_prob) const {
    return {preimage, sender, rand, win_prob, nonces, signatures};
  }
};

// What is wrong with each signature, if anything.
void damage(std::vector<uint8_t>& signatures) {
  for (size_t i = 0; i * kSignatureBytes < signatures.size(); ++i) {
    uint8_t* row = signatures.data() + i * kSignatureBytes;
    switch (i % 9) {
      case 1:
        row[64] ^= 27 ^ 28;
        break;
      case 2:
        row[64] -= 27;
        break;
      case 3:  // the malleable twin
        to_big_endian(order_negate(from_big_endian(row + 32)), row + 32);
        row[64] ^= 27 ^ 28;
        break;
      case 4:
        std::fill_n(row + (i % 2 ? 0 : 32), 32, uint8_t{0});
        break;
      case 5:
        to_big_endian(kOrder, row + (i % 2 ? 0 : 32));
        break;
      case 6:
        row[numbers.word() % 64] ^= static_cast<uint8_t>(1 << numbers.word() % 8);
        break;
      default:
        break;
    }
  }
}

void verdicts_do_not_depend_on_the_way(size_t count) {
  const Uint256 secret = numbers.scalar();
  Tickets tickets(secret, count);
  damage(tickets.signatures);
  const GeneratorTable generator(bytes_of(numbers.scalar()));
  const SignerTable table(tickets.key);
  const KnownSigner signer{generator, table};
  const Hash32 rand = bytes_of(numbers.value());
  const Payment payment = tickets.payment(rand, power_of_two(255));

  std::vector<uint8_t> expected(count);
  const auto learned =
      Verifier(kPlain, SimdPath::kPortable).verify(payment, nullptr, expected);
  for (size_t i = 0; i < count; ++i)
    CHECK(((expected[i] & kValid) != 0) == (i % 9 == 0 || i % 9 >= 7));
  CHECK(learned == (count == 0 ? std::nullopt : std::optional(tickets.key)));

  for (const SimdPath path : kTicketPaths) {
    if (!runs(path)) continue;
    std::vector<uint8_t> verdicts(count, 0xff);
    const auto key = Verifier(kPlain, path).verify(payment, &signer, verdicts);
    CHECK(!key);  // what was valid needed no recovery
    for (size_t i = 0; i < count; ++i) {
      CHECK((verdicts[i] & ~kRecovered) == (expected[i] & ~kRecovered));
      CHECK(((verdicts[i] & kRecovered) != 0) ==
            ((expected[i] & kRecovered) != 0 && !(expected[i] & kValid)));
    }
  }
}

void a_table_of_another_key_accepts_nothing() {
  const Tickets tickets(numbers.scalar(), 20);
  const GeneratorTable generator(bytes_of(numbers.scalar()));
  const SignerTable table(key_of(*multiple(kGenerator, numbers.scalar())));
  const KnownSigner signer{generator, table};
  std::vector<uint8_t> verdicts(20);
  const auto key = Verifier(kPlain, lpnode::best_simd_path(kTicketPaths))
                       .verify(tickets.payment(std::nullopt, {}), &signer, verdicts);
  CHECK(key == tickets.key);  // recovered all the same
  for (const uint8_t verdict : verdicts) CHECK(verdict == (kValid | kRecovered));
}

void lengths_must_fit() {
  Tickets tickets(numbers.scalar(), 3);
  const Verifier verifier(kPlain, SimdPath::kPortable);
  std::vector<uint8_t> verdicts(2);
  CHECK_THROWS(verifier.verify(tickets.payment(std::nullopt, {}), nullptr, verdicts),
               lpnode::InvalidArgument);
  verdicts.resize(3);
  tickets.signatures.pop_back();
  CHECK_THROWS(verifier.verify(tickets.payment(std::nullopt, {}), nullptr, verdicts),
               lpnode::InvalidArgument);
}

}  // namespace

int main() {
  for (const size_t count : {size_t{0}, size_t{1}, size_t{2}, size_t{5}, size_t{9}, size_t{64},
                             size_t{65}, size_t{130}})
    verdicts_do_not_depend_on_the_way(count);
  a_table_of_another_key_accepts_nothing();
  lengths_must_fit();
  return lpnode::test::finish();
}
