// Fuzz target: whole payments of one sender; every way to verify them gives the verdicts that plain
// hashing and plain recovery give, ticket by ticket.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <utility>

#include "fuzz_target.h"
#include "plain_recovery.h"
#include "ticket/verify.h"

using namespace lpnode::ticket;
using namespace lpnode::test;

namespace {

using SignatureBytes = std::array<uint8_t, kSignatureBytes>;

// Takes bytes off the input; where it has ended they are zeros.
class Input {
 public:
  explicit Input(std::span<const uint8_t> bytes) : bytes_(bytes) {}
  bool is_empty() const { return bytes_.empty(); }
  uint8_t take() {
    uint8_t byte = 0;
    take({&byte, 1});
    return byte;
  }
  void take(std::span<uint8_t> out) {
    const size_t count = std::min(out.size(), bytes_.size());
    std::copy_n(bytes_.begin(), count, out.begin());
    std::fill(out.begin() + count, out.end(), uint8_t{0});
    bytes_ = bytes_.subspan(count);
  }

 private:
  std::span<const uint8_t> bytes_;
};

// Signs with the sender's key, 5, and one of sixteen secret numbers.
class Sender {
 public:
  Sender() {
    for (size_t i = 0; i < used_.size(); ++i) {
      const Uint256 k = i < 8 ? Uint256{{i + 1}} : order_negate({{3 * i}});
      used_[i] = {order_inverse(k), *multiple(kGenerator, k)};
    }
  }

  SignatureBytes signature(const Hash32& digest, uint8_t which) const {
    const Used& used = used_[which % used_.size()];
    const Uint256 sum = order_subtract(order_multiply(used.point.x, key_),
                                       order_negate(from_big_endian(digest.data())));
    const Uint256 s = order_multiply(sum, used.inverse);
    const bool is_high = s > kHalfOrder;
    SignatureBytes out;
    to_big_endian(used.point.x, out.data());
    to_big_endian(is_high ? order_negate(s) : s, out.data() + 32);
    out[64] = (used.point.y.limb[0] & 1) != is_high ? 28 : 27;
    return out;
  }

 private:
  struct Used {
    Uint256 inverse;
    Point point;
  };
  Uint256 key_{{5}};
  std::array<Used, 16> used_;

 public:
  const PublicKey public_key = key_of(*multiple(kGenerator, key_));
  const AddressBytes address = address_of(public_key);
  const GeneratorTable generator{bytes_of({{7, 7, 7, 7}})};
  const SignerTable table{public_key};
};

// What kPlain recovers, each signature once: six verifications of a payment ask for the same.
int recover_once(const void* context, void* key, const void* signature, const uint8_t* digest32) {
  using Answer = std::pair<int, PublicKey>;
  static std::map<std::pair<SignatureBytes, Hash32>, Answer> answers;
  if (answers.size() > 1000) answers.clear();
  std::pair<SignatureBytes, Hash32> question;
  std::copy_n(static_cast<const uint8_t*>(signature), kSignatureBytes, question.first.begin());
  std::copy_n(digest32, question.second.size(), question.second.begin());
  const auto [entry, is_new] = answers.try_emplace(question);
  Answer& answer = entry->second;
  if (is_new) answer.first = kPlain.recover(context, answer.second.data(), signature, digest32);
  std::copy(answer.second.begin(), answer.second.end(), static_cast<uint8_t*>(key));
  return answer.first;
}

const Secp256k1 kPlainOnce{nullptr, kPlain.parse_compact, recover_once, kPlain.serialize};

// Source: payments.md sections 1.2 and 1.4.
Hash32 plain_digest(std::vector<uint8_t> preimage, uint32_t nonce) {
  for (int i = 0; i < 4; ++i) preimage[132 + i] = static_cast<uint8_t>(nonce >> (24 - 8 * i));
  const Hash32 hash = keccak256(preimage);
  constexpr char prefix[] = "\x19"
                            "Ethereum Signed Message:\n32";
  std::vector<uint8_t> message(prefix, prefix + 28);
  message.insert(message.end(), hash.begin(), hash.end());
  return keccak256(message);
}

// VALID and WON of one ticket. Source: payments.md sections 1.4 and 1.6.
uint8_t plain_verdict(const Payment& payment, const Hash32& digest, const SignatureBytes& row) {
  const Uint256 r = from_big_endian(row.data()), s = from_big_endian(row.data() + 32);
  if (row[64] < 27 || row[64] > 28 || r.is_zero() || r >= kOrder) return 0;
  if (s.is_zero() || s > kHalfOrder) return 0;
  const auto key = recover(kPlainOnce, digest, row.data());
  if (!key || address_of(*key) != payment.sender) return 0;
  std::vector<uint8_t> drawn(row.begin(), row.end());
  if (!payment.recipient_rand) return kValid;
  drawn.insert(drawn.end(), payment.recipient_rand->begin(), payment.recipient_rand->end());
  const bool has_won = from_big_endian(keccak256(drawn).data()) < payment.win_prob;
  return has_won ? kValid | kWon : kValid;
}

void expect(bool claim, const char* text, lpnode::SimdPath path) {
  if (claim) return;
  std::fprintf(stderr, "path %d: %s\n", static_cast<int>(path), text);
  std::abort();
}

}  // namespace

// A byte of flags, rand, winning probability, the preimage but for the sender; then per ticket a
// byte of flags, the nonce, and 65 bytes that are the signature, or are added to a good one by XOR.
// Payment's flag 1: with auxiliary data; 2: another sender; 4: nobody draws. Ticket's flag 1: the
// 65 bytes are the signature; 2: a good one stays as it is; 4: v of what results is swapped; 8: s
// is replaced by n - s; the four others choose the secret number.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Sender sender;
  Input input({data, size});
  const uint8_t flags = input.take();
  Hash32 rand, win_prob;
  input.take(rand);
  input.take(win_prob);
  std::vector<uint8_t> preimage(flags & 1 ? kPreimageWithAuxBytes : kPreimageBytes);
  input.take(preimage);
  AddressBytes address = sender.address;
  if (flags & 2) address[0] ^= 1;
  std::copy(address.begin(), address.end(), preimage.begin() + 20);
  std::fill_n(preimage.begin() + 104, 28, uint8_t{0});  // of the nonce, before its 32 bits

  std::vector<uint32_t> nonces;
  std::vector<uint8_t> signatures;
  std::vector<uint8_t> expected;
  Payment payment{preimage, address, rand, from_big_endian(win_prob.data()), {}, {}};
  if (flags & 4) payment.recipient_rand.reset();
  while (!input.is_empty() && nonces.size() < 2 * kMaxClaims + 2) {
    const uint8_t how = input.take();
    std::array<uint8_t, 4> nonce_bytes;
    input.take(nonce_bytes);
    uint32_t nonce;
    std::memcpy(&nonce, nonce_bytes.data(), sizeof nonce);
    const Hash32 digest = plain_digest(preimage, nonce);
    SignatureBytes row{};
    if (!(how & 2)) input.take(row);
    if (!(how & 1)) {
      const SignatureBytes good = sender.signature(digest, how >> 4);
      for (size_t i = 0; i < row.size(); ++i) row[i] ^= good[i];
    }
    if (how & 4) row[64] ^= 27 ^ 28;
    if (how & 8) to_big_endian(order_negate(from_big_endian(row.data() + 32)), row.data() + 32);
    nonces.push_back(nonce);
    signatures.insert(signatures.end(), row.begin(), row.end());
    expected.push_back(plain_verdict(payment, digest, row));
  }
  payment.nonces = nonces;
  payment.signatures = signatures;
  const bool is_any_valid =
      std::any_of(expected.begin(), expected.end(), [](uint8_t e) { return e & kValid; });

  const KnownSigner known{sender.generator, sender.table};
  for (const auto path : kTicketPaths) {
    if (!runs(path)) continue;
    for (const KnownSigner* signer : {static_cast<const KnownSigner*>(nullptr), &known}) {
      if (signer && address != sender.address) continue;  // whose tables these are not
      std::vector<uint8_t> verdicts(nonces.size(), 0xff);
      const auto key = Verifier(kPlainOnce, path).verify(payment, signer, verdicts);
      for (size_t i = 0; i < verdicts.size(); ++i) {
        expect((verdicts[i] & ~kRecovered) == expected[i], "a verdict is not the plain one", path);
        expect(!signer || (verdicts[i] & (kValid | kRecovered)) != (kValid | kRecovered),
               "a known signer's good ticket was recovered", path);
      }
      expect(key == (is_any_valid && !signer ? std::optional(sender.public_key) : std::nullopt),
             "the key learned is not the sender's", path);
    }
  }
  return 0;
}

#ifndef LPNODE_LIBFUZZER
int main() { run_fuzz_target(60, 300 + 70 * 24); }
#endif
