#include <nanobind/nanobind.h>

#include "byte_view.h"
#include "error_translator.h"
#include "ticket/keccak256.h"

namespace nb = nanobind;
using namespace nb::literals;

NB_MODULE(ticket, m) {
  lpnode::register_error_translator();
  m.def(
      "keccak256",
      [](const nb::object& message) {
        const lpnode::ByteView view(message);
        const auto digest = lpnode::ticket::keccak256(view.bytes());
        return nb::bytes(digest.data(), digest.size());
      },
      "message"_a, nb::sig("def keccak256(message: typing_extensions.Buffer) -> bytes"),
      "The Keccak-256 digest (32 bytes) of a contiguous bytes-like object.");
}
