// The arithmetic of known signers against the plain one of curve.h, and its edges.
#include "ticket/known_signer.h"

#include <random>
#include <vector>

#include "check.h"
#include "ticket/order_field.h"

using namespace lpnode::ticket;

namespace {

std::mt19937_64 random_words(20240917);

Uint256 random_value() {
  return {{random_words(), random_words(), random_words(), random_words()}};
}

Uint256 random_scalar() {
  Uint256 value = random_value();
  while (value.is_zero() || value >= kOrder) value = random_value();
  return value;
}

PublicKey key_of(const Point& point) {
  PublicKey key;
  to_big_endian(point.x, key.data());
  to_big_endian(point.y, key.data() + 32);
  return key;
}

Hash32 secret_of(const Uint256& scalar) {
  Hash32 secret;
  to_big_endian(scalar, secret.data());
  return secret;
}

Uint256 order_multiply(const Uint256& a, const Uint256& b) {
  return montgomery_multiply(montgomery_multiply(a, b), kMontgomerySquare);
}

Uint256 order_subtract(const Uint256& a, const Uint256& b) {
  Uint256 out;
  if (subtract_with_borrow(a, b, out)) add_with_carry(out, kOrder, out);
  return out;
}

std::vector<Uint256> edge_values(const Uint256& modulus) {
  std::vector<Uint256> edges{{{0}}, {{1}}, {{2}}, {{3}}, {{kFold}}, {{~uint64_t{0}}}};
  for (uint64_t below = 1; below < 4; ++below) {
    Uint256 value;
    subtract_with_borrow(modulus, {{below}}, value);
    edges.push_back(value);
  }
  for (int bit = 0; bit < 256; bit += 13) {
    Uint256 power;
    power.limb[bit / 64] = uint64_t{1} << (bit % 64);
    edges.push_back(power);
  }
  return edges;
}

void inverses_multiply_to_one() {
  for (const auto* modulus : {&kPrime, &kOrder}) {
    const bool is_prime_field = modulus == &kPrime;
    std::vector<Uint256> values = edge_values(*modulus);
    for (int i = 0; i < 2000; ++i) values.push_back(random_scalar());
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
  for (int i = 0; i < 60; ++i) values.push_back(random_value());
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

using Check = CheckClaims;

void expect(Check check, const GeneratorTable& generator, const Signer& signer,
            const std::vector<Claim>& claims, const std::vector<uint8_t>& expected) {
  std::vector<uint8_t> accepted(claims.size(), 9);
  check(generator, signer.table, claims, accepted);
  CHECK(accepted == expected);
}

void true_claims_are_accepted_and_others_are_not(Check check, const GeneratorTable& generator) {
  std::vector<Uint256> keys{{{1}}, {{2}}, {{3}}, {{4}}, {{5}}, {{uint64_t{1} << 52}}};
  keys.push_back(order_subtract({}, {{1}}));
  for (int bit : {8, 13, 64, 104, 247, 255}) {  // 2^k and 2^k times something odd
    Uint256 power;
    power.limb[bit / 64] = uint64_t{1} << (bit % 64);
    keys.push_back(power);
    keys.push_back(order_multiply(power, {{random_words() | 1}}));
  }
  for (int i = 0; i < 3; ++i) keys.push_back(random_scalar());
  for (const Uint256& key : keys) {
    const Signer signer(key);
    std::vector<Claim> claims;
    std::vector<uint8_t> expected;
    for (int i = 0; i < 5; ++i) {
      Uint256 u1 = random_scalar(), u2 = random_scalar();
      if (i == 1) u1 = {};
      if (i == 2) u1 = {{random_words() & 0xff}};
      if (i == 3) u2 = {{1 + (random_words() & 0xf)}};
      const auto point = claimed_point(signer, u1, u2);
      if (!point) continue;
      const Claim claim{u1, u2, point->x, (point->y.limb[0] & 1) != 0};
      for (int change = 0; change < 5; ++change) {
        Claim changed = claim;
        if (change == 1) changed.y_is_odd = !changed.y_is_odd;
        if (change == 2) changed.r = field_add(changed.r, {{1}});
        if (change == 3) changed.u1.limb[0] ^= 1;
        if (change == 4) changed.u2.limb[1] ^= 1;
        claims.push_back(changed);
        expected.push_back(change == 0);
      }
    }
    expect(check, generator, signer, claims, expected);
  }
}

void every_chunk_length_gives_the_same_answers(Check check, const GeneratorTable& generator) {
  const Signer signer(random_scalar());
  std::vector<Claim> claims;
  std::vector<uint8_t> expected;
  for (size_t i = 0; i < kMaxClaims; ++i) {
    const Uint256 u1 = random_scalar(), u2 = random_scalar();
    const Point point = *claimed_point(signer, u1, u2);
    claims.push_back({u1, u2, point.x, (point.y.limb[0] & 1) != 0});
    expected.push_back(random_words() % 3 != 0);
    if (!expected.back()) claims.back().y_is_odd ^= true;
    expect(check, generator, signer, claims, expected);
  }
}

// The sum at infinity, and its two halves equal (u1 G = u2 P), next to honest claims.
void an_exception_stays_in_its_lane(Check check, const GeneratorTable& generator) {
  const Signer signer(random_scalar());
  std::vector<Claim> claims;
  std::vector<uint8_t> expected;
  for (int i = 0; i < 24; ++i) {
    Uint256 u1 = random_scalar();
    const Uint256 u2 = random_scalar();
    const bool is_infinite = i % 5 == 2, is_double = i % 5 == 4;
    if (is_infinite) u1 = order_subtract({}, order_multiply(u2, signer.key));
    if (is_double) u1 = order_multiply(u2, signer.key);
    const auto point = claimed_point(signer, u1, u2);
    CHECK(point.has_value() == !is_infinite);
    claims.push_back(point ? Claim{u1, u2, point->x, (point->y.limb[0] & 1) != 0}
                           : Claim{u1, u2, {{static_cast<uint64_t>(i)}}, false});
    expected.push_back(!is_infinite);
    expect(check, generator, signer, claims, expected);
  }
}

// With the secret known, a sender's key can be chosen so that the sum of all but the last term is
// the last term or its opposite: the lane must not be accepted on a wrong formula, nor spoil others.
void a_coincidence_of_points_is_never_accepted_wrongly(Check check) {
  const Uint256 blind = random_scalar();
  const GeneratorTable generator(secret_of(blind));
  const Signer signer(random_scalar());
  std::vector<Claim> claims;
  std::vector<uint8_t> expected;
  for (int i = 0; i < 16; ++i) {
    // R = -2 B makes the sum before -B equal to -B; R = 0 makes it its opposite.
    const Uint256 u2 = random_scalar();
    Uint256 u1 = random_scalar();
    const bool is_aimed = i % 3 == 1;
    if (is_aimed)
      u1 = order_subtract(order_subtract(order_subtract({}, blind), blind),
                          order_multiply(u2, signer.key));
    const Point point = *claimed_point(signer, u1, u2);
    claims.push_back({u1, u2, point.x, (point.y.limb[0] & 1) != 0});
    expected.push_back(1);
    std::vector<uint8_t> accepted(claims.size(), 9);
    check(generator, signer.table, claims, accepted);
    for (size_t j = 0; j < accepted.size(); ++j)
      if (j % 3 != 1) CHECK(accepted[j] == 1);
    for (Claim& claim : claims) claim.y_is_odd ^= true;
    check(generator, signer.table, claims, accepted);
    for (const uint8_t each : accepted) CHECK(each == 0);
    for (Claim& claim : claims) claim.y_is_odd ^= true;
  }
}

}  // namespace

int main() {
  inverses_multiply_to_one();
  field_operations_agree_with_each_other();
  std::vector<Check> checks{check_claims_portable};
#ifdef LPNODE_X86
  if (best_simd_path() == SimdPath::kIfma) checks.push_back(check_claims_ifma);
#endif
  const GeneratorTable generator(secret_of(random_scalar()));
  for (const Check check : checks) {
    true_claims_are_accepted_and_others_are_not(check, generator);
    every_chunk_length_gives_the_same_answers(check, generator);
    an_exception_stays_in_its_lane(check, generator);
    a_coincidence_of_points_is_never_accepted_wrongly(check);
  }
  return lpnode::test::finish();
}
