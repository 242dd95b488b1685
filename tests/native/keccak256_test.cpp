#include "ticket/keccak256.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "check.h"

namespace {

std::string hex_digest(const std::vector<uint8_t>& message) {
  std::string text;
  for (const uint8_t byte : lpnode::ticket::keccak256(message)) {
    text += "0123456789abcdef"[byte >> 4];
    text += "0123456789abcdef"[byte & 15];
  }
  return text;
}

}  // namespace

int main() {
  CHECK(hex_digest({}) == "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470");
  CHECK(hex_digest({'a', 'b', 'c'}) ==
        "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45");
  // One byte short of a block: both padding bits share the last byte.
  CHECK(hex_digest(std::vector<uint8_t>(135, 'a')) ==
        "34367dc248bbd832f4e3e69dfaac2f92638bd0bbd18f2912ba4ef454919cf446");
  CHECK(hex_digest(std::vector<uint8_t>(136, 'a')) ==
        "a6c4d403279fe3e0af03729caada8374b5ca54d8065329a3ebcaeb4b60aa386e");
  return lpnode::test::finish();
}
