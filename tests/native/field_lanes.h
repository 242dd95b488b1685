// A field of several lanes against the field of one value, on values and forms at their bounds.
#pragma once

#include <algorithm>
#include <vector>

#include "check.h"
#include "plain_curve.h"
#include "ticket/point_sum.h"

namespace lpnode::test {

template <typename F>
class FieldLanes {
 public:
  using Element = typename F::Element;
  using Mask = typename F::Mask;
  static constexpr size_t kLanes = F::kLanes;

  // A value of each lane, and what it must be.
  struct Both {
    Element lanes;
    Uint256 plain[kLanes];
  };

  void run() {
    Numbers numbers(11);
    const std::vector<Uint256> edges = {
        {{0}}, {{1}}, {{2}}, {{kFold - 1}}, {{kFold}},
        {{kPrime.limb[0] - 1, ~uint64_t{0}, ~uint64_t{0}, ~uint64_t{0}}}, kPrime,
        {{kPrime.limb[0] + 1, ~uint64_t{0}, ~uint64_t{0}, ~uint64_t{0}}},
        {{~uint64_t{0}, ~uint64_t{0}, ~uint64_t{0}, ~uint64_t{0}}}};
    const auto any = [&] {
      Uint256 values[kLanes];
      for (Uint256& value : values)
        value = numbers.word() % 2 ? numbers.value() : edges[numbers.word() % edges.size()];
      return from(values);
    };
    for (int round = 0; round < 3000; ++round) agree(any(), any(), any(), numbers.word());
  }

 private:
  static Both from(const Uint256 (&values)[kLanes]) {
    Both out{F::lanes_from(values), {}};
    std::copy_n(values, kLanes, out.plain);
    return out;
  }

  template <typename PlainFunction>
  static Both of(const Element& lanes, PlainFunction plain) {
    Both out{lanes, {}};
    for (size_t lane = 0; lane < kLanes; ++lane) out.plain[lane] = plain(lane);
    Uint256 stored[kLanes];
    const Element product = F::multiply(lanes, F::one());
    F::store(product, stored);
    for (size_t lane = 0; lane < kLanes; ++lane) {
      CHECK(reduced(stored[lane]) == reduced(out.plain[lane]));
      CHECK((F::is_zero(lanes) >> lane & 1) == reduced(out.plain[lane]).is_zero());
      CHECK((F::parity(product) >> lane & 1) == (reduced(out.plain[lane]).limb[0] & 1));
    }
    return out;
  }

  static Both multiplied(const Both& a, const Both& b) {
    return of(F::multiply(a.lanes, b.lanes),
              [&](size_t lane) { return field_multiply(a.plain[lane], b.plain[lane]); });
  }
  static Both squared(const Both& a) {
    return of(F::square(a.lanes), [&](size_t lane) { return field_square(a.plain[lane]); });
  }
  static Uint256 turned(Mask mask, size_t lane, const Uint256& a) {
    return mask >> lane & 1 ? field_subtract({{0}}, a) : a;
  }

  // Every operation, on operands as large as point_sum.h and check_claims.h make them.
  static void agree(const Both& a, const Both& b, const Both& c, uint64_t word) {
    const Mask mask = static_cast<Mask>(word & ((1u << kLanes) - 1));
    const Both ab = multiplied(a, b), bc = multiplied(b, c), aa = squared(a);
    const Both x = of(F::third(aa.lanes, ab.lanes, bc.lanes), [&](size_t lane) {
      const Uint256 less = field_add(ab.plain[lane], field_add(bc.plain[lane], bc.plain[lane]));
      return field_subtract(aa.plain[lane], less);
    });
    const Both negated = of(F::negated(mask, c.lanes),
                            [&](size_t lane) { return turned(mask, lane, c.plain[lane]); });
    const Both y = of(F::small_difference(ab.lanes, bc.lanes), [&](size_t lane) {
      return field_subtract(ab.plain[lane], bc.plain[lane]);
    });
    const Both p = of(F::difference(x.lanes, x.lanes), [](size_t) { return Uint256{}; });
    const Both q = of(F::difference(ab.lanes, x.lanes), [&](size_t lane) {
      return field_subtract(ab.plain[lane], x.plain[lane]);
    });
    const Both r = of(F::signed_difference(mask, ab.lanes, y.lanes), [&](size_t lane) {
      return field_subtract(turned(mask, lane, ab.plain[lane]), y.plain[lane]);
    });
    for (const Both* factor : {&a, &negated, &x, &y, &p, &q, &r}) {
      squared(*factor);
      multiplied(*factor, q);
      multiplied(r, *factor);
    }
    const Both kept_x = of(F::compact_third(aa.lanes, a.lanes, b.lanes), [&](size_t lane) {
      return field_subtract(aa.plain[lane], field_add(a.plain[lane], b.plain[lane]));
    });
    const Both kept_y = of(F::compact_difference(ab.lanes, negated.lanes), [&](size_t lane) {
      return field_subtract(ab.plain[lane], negated.plain[lane]);
    });
    multiplied(kept_x, kept_y);
    of(F::compact_third(kept_x.lanes, kept_x.lanes, kept_x.lanes),
       [&](size_t lane) { return field_subtract({{0}}, kept_x.plain[lane]); });
    of(F::select(mask, x.lanes, y.lanes),
       [&](size_t lane) { return mask >> lane & 1 ? x.plain[lane] : y.plain[lane]; });
    for (int lanes = 1; lanes < static_cast<int>(kLanes); lanes *= 2)
      of(F::rotated(x.lanes, lanes), [&](size_t lane) { return x.plain[(lane + lanes) % kLanes]; });
  }
};

}  // namespace lpnode::test
