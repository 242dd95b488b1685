// Fuzz target: any scalars, any r: every path of check_claims and the plain curve agree.
#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "fuzz_target.h"
#include "plain_curve.h"
#include "ticket/known_signer.h"

using namespace lpnode::ticket;
using namespace lpnode::test;

namespace {

struct World {
  Uint256 key{{0x1234567}};
  Point point = *multiple(kGenerator, key);
  GeneratorTable generator{bytes_of({{7, 7, 7, 7}})};
  SignerTable table{key_of(point)};
};

// Takes up to 32 bytes off the input, as a number below n; short input reads as zeros.
Uint256 take_scalar(std::span<const uint8_t>& input) {
  Hash32 bytes{};
  const size_t count = std::min(bytes.size(), input.size());
  std::copy_n(input.begin(), count, bytes.begin());
  input = input.subspan(count);
  return order_reduce(from_big_endian(bytes.data()));
}

}  // namespace

// Per claim: a byte of flags, u1, u2, r. Flag 1: r is the true one; 2: u1 = u2 d; 4: u1 = -u2 d.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const World world;
  std::span<const uint8_t> input(data, size);
  std::vector<Claim> claims;
  std::vector<uint8_t> expected;
  while (!input.empty() && claims.size() < kMaxClaims) {
    const uint8_t flags = input[0];
    input = input.subspan(1);
    Uint256 u1 = take_scalar(input);
    const Uint256 u2 = take_scalar(input);
    if (flags & 2) u1 = order_multiply(u2, world.key);
    if (flags & 4) u1 = order_negate(order_multiply(u2, world.key));
    const auto point = sum(multiple(kGenerator, u1), multiple(world.point, u2));
    Claim claim{u1, u2, take_scalar(input), (flags & 8) != 0};
    if ((flags & 1) && point) claim.r = point->x;
    claims.push_back(claim);
    expected.push_back(point && point->x == claim.r && (point->y.limb[0] & 1) == claim.y_is_odd);
  }
  std::vector<uint8_t> accepted(claims.size());
  for (const auto path : kTicketPaths) {
    if (!runs(path)) continue;
    check_claims(path)(world.generator, world.table, claims, accepted);
    if (accepted == expected) continue;
    std::fprintf(stderr, "path %d differs from the plain curve\n", static_cast<int>(path));
    std::abort();
  }
  return 0;
}

#ifndef LPNODE_LIBFUZZER
int main() { run_fuzz_target(60, 97 * 24); }
#endif
