#include <nanobind/nanobind.h>
#include <nanobind/stl/string_view.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "byte_view.h"
#include "error.h"
#include "error_translator.h"
#include "ticket/keccak256.h"
#include "ticket/verify.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace lpnode::ticket;
using lpnode::ByteView;

namespace {

template <size_t size>
std::array<uint8_t, size> exactly(nb::handle object, const char* name) {
  const ByteView view(object);
  if (view.bytes().size() != size)
    throw lpnode::InvalidArgument(std::string(name) + " must be " + std::to_string(size) +
                                  " bytes, got " + std::to_string(view.bytes().size()));
  std::array<uint8_t, size> bytes;
  std::copy_n(view.bytes().begin(), size, bytes.begin());
  return bytes;
}

// Copied, as a buffer need not be aligned.
std::vector<uint32_t> to_nonces(std::span<const uint8_t> bytes) {
  if (bytes.size() % sizeof(uint32_t))
    throw lpnode::InvalidArgument("nonces must be unsigned integers of 4 bytes");
  std::vector<uint32_t> nonces(bytes.size() / sizeof(uint32_t));
  if (!nonces.empty()) std::memcpy(nonces.data(), bytes.data(), bytes.size());
  return nonces;
}

nb::bytes to_bytes(std::span<const uint8_t> bytes) { return nb::bytes(bytes.data(), bytes.size()); }

}  // namespace

NB_MODULE(ticket, m) {
  lpnode::register_error_translator();
  m.def(
      "keccak256",
      [](const nb::object& message) {
        const ByteView view(message);
        return to_bytes(keccak256(view.bytes()));
      },
      "message"_a, nb::sig("def keccak256(message: typing_extensions.Buffer) -> bytes"),
      "The Keccak-256 digest (32 bytes) of a contiguous bytes-like object.");

  m.attr("VALID") = kValid;
  m.attr("WON") = kWon;
  m.attr("RECOVERED") = kRecovered;

  m.def(
      "best_simd_path", [] { return simd_path_name(best_simd_path(kTicketPaths)); },
      "The path that \"auto\" takes on this machine: \"portable\", \"avx2\" or \"ifma\".");

  nb::class_<Secp256k1>(m, "Secp256k1", "libsecp256k1 as loaded by someone else.")
      .def(
          "__init__",
          [](Secp256k1* self, uintptr_t context, uintptr_t parse_compact, uintptr_t recover,
             uintptr_t serialize) {
            new (self) Secp256k1{
                reinterpret_cast<const void*>(context),
                reinterpret_cast<decltype(Secp256k1::parse_compact)>(parse_compact),
                reinterpret_cast<decltype(Secp256k1::recover)>(recover),
                reinterpret_cast<decltype(Secp256k1::serialize)>(serialize)};
          },
          "context"_a, "parse_compact"_a, "recover"_a, "serialize"_a,
          "Addresses of a context and of secp256k1_ecdsa_recoverable_signature_parse_compact,\n"
          "secp256k1_ecdsa_recover and secp256k1_ec_pubkey_serialize. The library stays loaded.");

  nb::class_<GeneratorTable>(m, "GeneratorTable", "Multiples of the curve's generator. Immutable.")
      .def(
          "__init__",
          [](GeneratorTable* self, const nb::object& secret) {
            const auto bytes = exactly<32>(secret, "secret");
            const nb::gil_scoped_release unlocked;
            new (self) GeneratorTable(bytes);
          },
          "secret"_a, nb::sig("def __init__(self, secret: bytes) -> None"),
          "secret: 32 random bytes of this process, which blind the rows. Takes about 30 ms,\n"
          "without the GIL.")
      .def_prop_ro("num_bytes", &GeneratorTable::num_bytes, "Memory that the rows take.");

  nb::class_<SignerTable>(m, "SignerTable", "Multiples of a sender's public key. Immutable.")
      .def(
          "__init__",
          [](SignerTable* self, const nb::object& public_key) {
            const auto key = exactly<64>(public_key, "public_key");
            const nb::gil_scoped_release unlocked;
            new (self) SignerTable(key);
          },
          "public_key"_a, nb::sig("def __init__(self, public_key: bytes) -> None"),
          "public_key: x and y, 64 bytes. Takes about 1.5 ms, without the GIL.")
      .def_prop_ro_static(
          "NUM_BYTES", [](const nb::object&) { return SignerTable::kBytes; },
          "Memory that the rows of one signer take.");

  nb::class_<Verifier>(m, "Verifier", "Verifies the tickets of payments. Any thread.")
      .def(
          "__init__",
          [](Verifier* self, const Secp256k1& secp256k1, std::string_view path) {
            new (self) Verifier(secp256k1, simd_path_named(path, kTicketPaths));
          },
          "secp256k1"_a, "path"_a = "auto",
          "path: \"auto\", \"portable\", \"avx2\" or \"ifma\".")
      .def(
          "verify",
          [](const Verifier& self, const nb::object& preimage, const nb::object& sender,
             const nb::object& recipient_rand, const nb::object& win_prob,
             const nb::object& nonces, const nb::object& signatures,
             const GeneratorTable* generator, const SignerTable* table) {
            const ByteView preimage_view(preimage), nonce_view(nonces), signature_view(signatures);
            const std::vector<uint32_t> nonce_values = to_nonces(nonce_view.bytes());
            Payment payment{preimage_view.bytes(),
                            exactly<20>(sender, "sender"),
                            std::nullopt,
                            from_big_endian(exactly<32>(win_prob, "win_prob").data()),
                            nonce_values,
                            signature_view.bytes()};
            if (!recipient_rand.is_none())
              payment.recipient_rand = exactly<32>(recipient_rand, "recipient_rand");
            std::optional<KnownSigner> signer;
            if (generator && table) signer.emplace(KnownSigner{*generator, *table});
            std::vector<uint8_t> verdicts(payment.nonces.size());
            std::optional<PublicKey> key;
            {
              const nb::gil_scoped_release unlocked;
              key = self.verify(payment, signer ? &*signer : nullptr, verdicts);
            }
            const nb::object learned = key ? nb::object(to_bytes(*key)) : nb::none();
            return nb::make_tuple(to_bytes(verdicts), learned);
          },
          "preimage"_a, "sender"_a, "recipient_rand"_a.none(), "win_prob"_a, "nonces"_a,
          "signatures"_a, "generator"_a.none() = nb::none(), "table"_a.none() = nb::none(),
          nb::sig("def verify(self, preimage: typing_extensions.Buffer, sender: bytes, "
                  "recipient_rand: bytes | None, win_prob: bytes, "
                  "nonces: typing_extensions.Buffer, signatures: typing_extensions.Buffer, "
                  "generator: GeneratorTable | None = None, table: SignerTable | None = None"
                  ") -> tuple[bytes, bytes | None]"),
          "Verifies the N tickets of one payment; the GIL is released meanwhile.\n\n"
          "preimage: the packed ticket (168 or 232 bytes), whatever its nonce. sender: 20 bytes.\n"
          "recipient_rand: 32 bytes, or None: no ticket wins. win_prob: 32 bytes, big-endian.\n"
          "nonces: N native uint32. signatures: N rows of 65 bytes. table: of the sender's key.\n\n"
          "Returns a byte for each ticket, made of VALID, WON and RECOVERED, and the sender's\n"
          "public key (x and y, 64 bytes) if it was recovered from one of them.");
}
