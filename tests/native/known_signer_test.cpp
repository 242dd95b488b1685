// The arithmetic of known signers against the plain one, and its edges.
#include "ticket/known_signer.h"

#include <vector>

#include "check.h"
#include "error.h"
#include "plain_curve.h"

using namespace lpnode::ticket;
using namespace lpnode::test;

namespace {

Numbers numbers(20240917);

std::vector<Uint256> edge_values(const Uint256& modulus) {
  std::vector<Uint256> edges{{}, {{1}}, {{2}}, {{3}}, {{kFold}}, {{~uint64_t{0}}}};
  for (uint64_t below = 1; below < 4; ++below) {
    Uint256 value;
    subtract_with_borrow(modulus, {{below}}, value);
    edges.push_back(value);
  }
  for (int bit = 0; bit < 256; bit += 13) edges.push_back(power_of_two(bit));
  return edges;
}

void inverses_multiply_to_one() {
  for (const auto* modulus : {&kPrime, &kOrder}) {
    const bool is_prime_field = modulus == &kPrime;
    std::vector<Uint256> values = edge_values(*modulus);
    for (int i = 0; i < 2000; ++i) values.push_back(numbers.scalar());
    for (const Uint256& value : values) {
      const Uint256 inverse =
          modular_inverse(value, is_prime_field ? kPrimeModulus : kOrderModulus);
      CHECK(inverse < *modulus);
      const Uint256 product = is_prime_field ? reduced(field_multiply(value, inverse))
                                             : order_multiply(value, inverse);
      CHECK(product == (value.is_zero() ? Uint256{} : Uint256{{1}}));
    }
  }
}

void field_operations_agree_with_each_other() {
  std::vector<Uint256> values = edge_values(kPrime);
  for (uint64_t over = 0; over < 3; ++over) {  // forms above p
    Uint256 value;
    add_with_carry(kPrime, {{over}}, value);
    values.push_back(value);
  }
  values.push_back({{~uint64_t{0}, ~uint64_t{0}, ~uint64_t{0}, ~uint64_t{0}}});
  for (int i = 0; i < 60; ++i) values.push_back(numbers.value());
  for (const Uint256& a : values) {
    for (const Uint256& b : values) {
      CHECK(reduced(field_subtract(field_add(a, b), b)) == reduced(a));
      // (a + b)^2 = a^2 + 2 a b + b^2
      const Uint256 product = field_multiply(a, b);
      const Uint256 expanded = field_add(field_add(field_square(a), field_add(product, product)),
                                         field_square(b));
      CHECK(reduced(field_square(field_add(a, b))) == reduced(expanded));
    }
  }
}

struct Signer {
  Uint256 key;
  Point point;
  SignerTable table;
  explicit Signer(const Uint256& scalar)
      : key(scalar), point(*multiple(kGenerator, scalar)), table(key_of(point)) {}
};

std::optional<Point> claimed_point(const Signer& signer, const Uint256& u1, const Uint256& u2) {
  return sum(multiple(kGenerator, u1), multiple(signer.point, u2));
}

Claim claim_of(const Uint256& u1, const Uint256& u2, const Point& point) {
  return {u1, u2, point.x, (point.y.limb[0] & 1) != 0};
}

std::vector<uint8_t> answers(CheckClaims check, const GeneratorTable& generator,
                             const SignerTable& table, const std::vector<Claim>& claims) {
  std::vector<uint8_t> accepted(claims.size(), 9);
  check(generator, table, claims, accepted);
  return accepted;
}

void true_claims_are_accepted_and_others_are_not(CheckClaims check,
                                                 const GeneratorTable& generator) {
  std::vector<Uint256> keys{{{1}}, {{2}}, {{3}}, {{4}}, {{5}}, order_negate({{1}})};
  for (const int bit : {8, 13, 52, 64, 104, 208, 247, 255}) {  // 2^k, and that times an odd number
    keys.push_back(order_reduce(power_of_two(bit)));
    keys.push_back(order_multiply(keys.back(), {{numbers.word() | 1}}));
  }
  for (int i = 0; i < 3; ++i) keys.push_back(numbers.scalar());
  for (const Uint256& key : keys) {
    const Signer signer(key);
    std::vector<Claim> claims;
    std::vector<uint8_t> expected;
    for (int i = 0; i < 6; ++i) {
      Uint256 u1 = numbers.scalar(), u2 = numbers.scalar();
      if (i == 1) u1 = {};
      if (i == 2) u1 = {{numbers.word() & 0xff}};
      if (i == 3) u2 = {{1 + (numbers.word() & 0xf)}};
      const auto point = claimed_point(signer, u1, u2);
      if (!point) continue;
      for (int change = 0; change < 5; ++change) {
        Claim claim = claim_of(u1, u2, *point);
        if (change == 1) claim.y_is_odd = !claim.y_is_odd;
        if (change == 2) claim.r = field_add(claim.r, {{1}});
        if (change == 3) claim.u1.limb[0] ^= 1;
        if (change == 4) claim.u2.limb[1] ^= 1;
        claims.push_back(claim);
        expected.push_back(change == 0);
      }
    }
    CHECK(answers(check, generator, signer.table, claims) == expected);
  }
}

void every_number_of_claims_gives_the_same_answers(CheckClaims check,
                                                   const GeneratorTable& generator) {
  const Signer signer(numbers.scalar());
  std::vector<Claim> claims;
  std::vector<uint8_t> expected;
  for (size_t i = 0; i < kMaxClaims; ++i) {
    const Uint256 u1 = numbers.scalar(), u2 = numbers.scalar();
    claims.push_back(claim_of(u1, u2, *claimed_point(signer, u1, u2)));
    expected.push_back(numbers.word() % 3 != 0);
    if (!expected.back()) claims.back().y_is_odd ^= true;
    CHECK(answers(check, generator, signer.table, claims) == expected);
  }
  CHECK(answers(check, generator, signer.table, {}).empty());
}

// The sum at infinity, and its two halves equal (u1 G = u2 P), next to honest claims.
void an_exceptional_sum_does_not_touch_its_neighbours(CheckClaims check,
                                                      const GeneratorTable& generator) {
  const Signer signer(numbers.scalar());
  std::vector<Claim> claims;
  std::vector<uint8_t> expected;
  for (int i = 0; i < 24; ++i) {
    Uint256 u1 = numbers.scalar();
    const Uint256 u2 = numbers.scalar();
    const bool is_infinite = i % 5 == 2, is_double = i % 5 == 4;
    if (is_infinite) u1 = order_negate(order_multiply(u2, signer.key));
    if (is_double) u1 = order_multiply(u2, signer.key);
    const auto point = claimed_point(signer, u1, u2);
    CHECK(point.has_value() == !is_infinite);
    claims.push_back(point ? claim_of(u1, u2, *point)
                           : Claim{u1, u2, {{static_cast<uint64_t>(i)}}, false});
    expected.push_back(!is_infinite);
    CHECK(answers(check, generator, signer.table, claims) == expected);
  }
}

// A scalar u such that the two lowest windows of G have these digits (as bits, Note [Digits]).
Uint256 scalar_with_low_digits(uint64_t first, uint64_t second) {
  Uint256 bits = numbers.value();
  bits.limb[3] >>= 1;
  constexpr int both = 2 * kGeneratorBits;
  bits.limb[0] = (bits.limb[0] >> both << both) | second << kGeneratorBits | first;
  // 2 bits - (2^256 - 1) modulo n
  const Uint256 ones{{~uint64_t{0}, ~uint64_t{0}, ~uint64_t{0}, ~uint64_t{0}}};
  return order_subtract(order_subtract(bits, order_reduce(ones)), order_negate(bits));
}

// Only who knows the secret can do this: the first two terms are the same point, or opposite ones.
// The batch's shared inversion meets a zero, and only the lane in question may be lost by it.
void equal_neighbours_divert_their_own_lane_only(CheckClaims check) {
  for (const bool is_opposite : {false, true}) {
    const uint64_t first = 5000, second = is_opposite ? 100 : 8000;
    const Uint256 digit{{2 * first - 8191}};
    const Uint256 other = is_opposite ? Uint256{{8191 - 2 * second}} : Uint256{{2 * second - 8191}};
    // The row of the first digit, digit G + B, is to be |other digit| 2^13 G.
    const Uint256 secret =
        order_subtract(order_multiply(other, power_of_two(kGeneratorBits)), digit);
    const GeneratorTable generator(bytes_of(secret));
    const Signer signer(numbers.scalar());
    for (const size_t num_claims : {size_t{1}, size_t{3}, size_t{8}, size_t{40}, kMaxClaims}) {
      std::vector<Claim> claims;
      std::vector<uint8_t> expected;
      for (size_t i = 0; i < num_claims; ++i) {
        const bool is_aimed = i == num_claims / 2;
        const Uint256 u1 = is_aimed ? scalar_with_low_digits(first, second) : numbers.scalar();
        const Uint256 u2 = numbers.scalar();
        claims.push_back(claim_of(u1, u2, *claimed_point(signer, u1, u2)));
        expected.push_back(!is_aimed);
      }
      CHECK(answers(check, generator, signer.table, claims) == expected);
    }
  }
}

// R = -2 B makes the sum before the last term, -B, equal to that term.
void an_aimed_last_term_is_never_accepted_wrongly(CheckClaims check) {
  const Uint256 secret = numbers.scalar();
  const GeneratorTable generator(bytes_of(secret));
  const Signer signer(numbers.scalar());
  std::vector<Claim> claims;
  for (size_t i = 0; i < 40; ++i) {
    const Uint256 u2 = numbers.scalar();
    Uint256 u1 = numbers.scalar();
    if (i % 3 == 1)
      u1 = order_subtract(order_negate(order_multiply({{2}}, secret)),
                          order_multiply(u2, signer.key));
    claims.push_back(claim_of(u1, u2, *claimed_point(signer, u1, u2)));
  }
  const std::vector<uint8_t> accepted = answers(check, generator, signer.table, claims);
  for (size_t i = 0; i < claims.size(); ++i)
    if (i % 3 != 1) CHECK(accepted[i] == 1);
  for (Claim& claim : claims) claim.y_is_odd ^= true;
  CHECK(answers(check, generator, signer.table, claims) == std::vector<uint8_t>(40, 0));
}

// Signatures made backwards, from R, r, s and z to the key: so that each of them can be an edge.
void signatures_at_the_edges_are_decided_as_recovery_does(CheckClaims check,
                                                          const GeneratorTable& generator) {
  std::vector<Uint256> xs;
  for (Uint256 x{{1}}; xs.size() < 2; add_with_carry(x, {{1}}, x))
    if (point_at(x, false)) xs.push_back(x);
  Uint256 below = kOrder;
  subtract_with_borrow(below, {{1}}, below);
  while (!point_at(below, false)) subtract_with_borrow(below, {{1}}, below);
  xs.push_back(below);
  // At or above the order: r = x - n is a signature for a plain verification, but recovery with v
  // of 27 or 28 never takes it so.
  for (Uint256 x = kOrder; xs.size() < 5; add_with_carry(x, {{1}}, x))
    if (x != kOrder && point_at(x, false)) xs.push_back(x);
  Uint256 almost_half, above_order;
  subtract_with_borrow(kHalfOrder, {{1}}, almost_half);
  add_with_carry(kOrder, {{1}}, above_order);
  const Uint256 ones{{~uint64_t{0}, ~uint64_t{0}, ~uint64_t{0}, ~uint64_t{0}}};
  for (const Uint256& x : xs) {
    const bool is_over = x >= kOrder;
    const Uint256 r = order_reduce(x);
    for (const Uint256& s : {Uint256{{1}}, Uint256{{2}}, almost_half, kHalfOrder}) {
      for (const Uint256& z :
           {Uint256{}, Uint256{{1}}, order_negate({{1}}), kOrder, above_order, ones}) {
        const bool is_odd = numbers.word() & 1;
        const auto key = signer_of(*point_at(x, is_odd), r, s, z);
        if (!key) continue;
        const SignerTable table(key_of(*key));
        const Hash32 digests[2] = {bytes_of(z), bytes_of(z)};
        const Signature signatures[2] = {{r, s, is_odd}, {r, s, !is_odd}};
        std::vector<Claim> claims(2);
        list_claims(digests, signatures, claims);
        const std::vector<uint8_t> expected{static_cast<uint8_t>(!is_over), 0};
        CHECK(answers(check, generator, table, claims) == expected);
      }
    }
  }
}

void what_is_no_key_or_secret_is_refused() {
  PublicKey key = key_of(kGenerator);
  key[63] ^= 1;
  CHECK_THROWS(SignerTable{key}, lpnode::InvalidArgument);
  CHECK_THROWS(SignerTable{PublicKey{}}, lpnode::InvalidArgument);
  // x above p, though the same residue is on the curve.
  Point high = *point_at({{1}}, false);
  add_with_carry(high.x, kPrime, high.x);
  CHECK_THROWS(SignerTable{key_of(high)}, lpnode::InvalidArgument);
  CHECK_THROWS(GeneratorTable{Hash32{}}, lpnode::InvalidArgument);
  CHECK_THROWS(GeneratorTable{bytes_of(kOrder)}, lpnode::InvalidArgument);
}

}  // namespace

int main() {
  inverses_multiply_to_one();
  field_operations_agree_with_each_other();
  what_is_no_key_or_secret_is_refused();
  std::vector<CheckClaims> checks;
  for (const auto path : kTicketPaths)
    if (runs(path)) checks.push_back(check_claims(path));
  const GeneratorTable generator(bytes_of(numbers.scalar()));
  for (const CheckClaims check : checks) {
    true_claims_are_accepted_and_others_are_not(check, generator);
    every_number_of_claims_gives_the_same_answers(check, generator);
    an_exceptional_sum_does_not_touch_its_neighbours(check, generator);
    equal_neighbours_divert_their_own_lane_only(check);
    an_aimed_last_term_is_never_accepted_wrongly(check);
    signatures_at_the_edges_are_decided_as_recovery_does(check, generator);
  }
  return lpnode::test::finish();
}
