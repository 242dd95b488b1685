#include "ticket/signer_table.h"

#include "error.h"
#include "ticket/order_field.h"

namespace lpnode::ticket {
namespace {

constexpr size_t num_generator_rows(int window) noexcept {
  if (window == 0) return size_t{1} << kGeneratorBits;
  if (window == kGeneratorWindows - 1) return size_t{1} << kGeneratorLastBits;
  return size_t{1} << (kGeneratorBits - 1);
}

Uint256 modulo_order(const Uint256& a) noexcept {
  Uint256 less;
  return subtract_with_borrow(a, kOrder, less) ? a : less;
}

Point doubled_times(const Point& point, int times) noexcept {
  Point out = point;
  for (int i = 0; i < times; ++i) out = doubled(out);
  return out;
}

Point finite(const std::optional<Point>& point) {
  if (!point) throw InvalidArgument("a table's points must not be at infinity");
  return *point;
}

// -(2^w - 1) X + blind, from X and 2^w X.
Point lowest_blinded(const Point& base, const Point& next_base, const Point& blind) {
  return finite(sum(sum(negated(next_base), base), blind));
}

// b of Note [Digits].
Uint256 halved_with_all_ones(const Uint256& u) noexcept {
  constexpr Uint256 ones_modulo_order{
      {~kOrder.limb[0], ~kOrder.limb[1], ~kOrder.limb[2], ~kOrder.limb[3]}};  // 2^256 - 1 - n
  Uint256 total;
  bool carry = add_with_carry(u, ones_modulo_order, total);
  if (total.limb[0] & 1) carry = add_with_carry(total, kOrder, total) || carry;
  for (int i = 0; i < 3; ++i) total.limb[i] = total.limb[i] >> 1 | total.limb[i + 1] << 63;
  total.limb[3] = total.limb[3] >> 1 | uint64_t{carry} << 63;
  return total;
}

uint64_t bits_at(const Uint256& value, int first, int count) noexcept {
  const int limb = first / 64, shift = first % 64;
  uint64_t bits = value.limb[limb] >> shift;
  if (shift + count > 64 && limb < 3) bits |= value.limb[limb + 1] << (64 - shift);
  return bits & ((uint64_t{1} << count) - 1);
}

Term odd_multiple(const Point* window, uint64_t bits, int count) noexcept {
  const uint64_t half = uint64_t{1} << (count - 1);
  const bool is_negative = bits < half;
  return {window + (is_negative ? half - 1 - bits : bits - half), is_negative};
}

}  // namespace

GeneratorTable::GeneratorTable(const Hash32& secret) {
  const Uint256 scalar = modulo_order(from_big_endian(secret.data()));
  const Point blind = finite(multiple(kGenerator, scalar));
  size_t num_rows = 0;
  for (int i = 0; i < kGeneratorWindows; ++i) {
    offsets_[i] = num_rows;
    num_rows += num_generator_rows(i);
  }
  rows_.resize(num_rows);
  std::vector<Progression> progressions;
  Point base = kGenerator;
  for (int i = 0; i < kGeneratorWindows; ++i) {
    const bool is_last = i == kGeneratorWindows - 1;
    const Point next_base = doubled_times(base, is_last ? kGeneratorLastBits : kGeneratorBits);
    Point first = base;
    if (i == 0) first = lowest_blinded(base, next_base, blind);
    if (is_last) first = lowest_blinded(base, next_base, negated(blind));
    progressions.push_back(
        {first, doubled(base), std::span(rows_).subspan(offsets_[i], num_generator_rows(i))});
    base = next_base;
  }
  fill(progressions);
}

SignerTable::SignerTable(const PublicKey& key) : rows_(kSignerWindows * kWindowRows) {
  std::vector<Progression> progressions;
  Point base = to_point(key);
  for (int i = 0; i < kSignerWindows; ++i) {
    const Point twice = doubled(base);
    progressions.push_back({base, twice, std::span(rows_).subspan(i * kWindowRows, kWindowRows)});
    base = doubled_times(twice, kSignerBits - 1);
  }
  fill(progressions);
}

void list_terms(const GeneratorTable& generator, const SignerTable& signer, const Uint256& u1,
                const Uint256& u2, std::span<Term, kWindows> terms) noexcept {
  const Uint256 b1 = halved_with_all_ones(u1), b2 = halved_with_all_ones(u2);
  const auto generator_term = [&](int i) {
    return odd_multiple(generator.window(i), bits_at(b1, i * kGeneratorBits, kGeneratorBits),
                        kGeneratorBits);
  };
  constexpr int last = kGeneratorWindows - 1;
  Term* term = terms.data();
  *term++ = {generator.window(0) + bits_at(b1, 0, kGeneratorBits), false};
  for (int i = 1; i < kFirstGeneratorTerms; ++i) *term++ = generator_term(i);
  for (int i = 0; i < kSignerWindows; ++i)
    *term++ =
        odd_multiple(signer.window(i), bits_at(b2, i * kSignerBits, kSignerBits), kSignerBits);
  for (int i = kFirstGeneratorTerms; i < last; ++i) *term++ = generator_term(i);
  *term = {generator.window(last) + bits_at(b1, last * kGeneratorBits, kGeneratorLastBits), false};
}

}  // namespace lpnode::ticket
