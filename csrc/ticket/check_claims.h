// check_claims for any field (point_sum.h). Included by the files that choose one.
//
// Note [Affine levels]: adding two points costs 10 products in the coordinates of point_sum.h, but
// 6 in affine ones if many additions share an inversion. So the terms of a batch of claims are
// first added in pairs, the pairs in fours and so on, and only then summed. Neighbours are
// multiples of one point by different windows, and their x differ: the sum or the difference of
// their multipliers is below 2^209 (Note [Digits]) and odd at its lowest window, so it is no
// multiple of the order. The blinded ones are beyond anybody's aim. If a difference is
// zero all the same, the batch is done again without levels, which isolates the lane.
#pragma once

#include "ticket/point_sum.h"

namespace lpnode::ticket {

template <typename F>
class ClaimCheck {
 public:
  ClaimCheck(const GeneratorTable& generator, const SignerTable& signer) noexcept
      : generator_(generator), signer_(signer) {}

  void run(std::span<const Claim> claims, std::span<uint8_t> accepted) noexcept {
    for (size_t first = 0; first < claims.size();) {
      const size_t left = claims.size() - first;
      const size_t batch = std::min(left / kLanes, F::kBatchGroups);
      if (batch >= F::kMinBatchGroups) {
        const auto batched = claims.subspan(first, batch * kLanes);
        if (!sum_batch(batched, first)) sum_groups(batched, first);
        first += batched.size();
      } else {
        const size_t some = std::min(left, kLanes);
        sum_groups(claims.subspan(first, some), first);
        first += some;
      }
    }
    decide(claims, accepted);
  }

 private:
  using Element = typename F::Element;
  using Mask = typename F::Mask;
  static constexpr size_t kLanes = F::kLanes;
  static constexpr size_t kMaxGroups = kMaxClaims / kLanes;

  struct Group {
    size_t first_claim, num_claims;
    Element y, zzz;         // of R, lane l for claim l
    Element product;        // of zzz of the groups before
    Mask has_same_x, is_spoilt;
  };

  // What each lane adds, step by step.
  struct Schedule {
    const Point* rows[kWindows][kLanes];
    Mask is_negative[kWindows];
    Mask is_active[kWindows];
  };

  struct AffinePoint {
    Element x, y;
  };

  void sum_groups(std::span<const Claim> claims, size_t first_claim) noexcept {
    while (!claims.empty()) {
      const int parts = parts_for(claims.size());
      const size_t count = std::min(kLanes / parts, claims.size());
      sum_group(claims.first(count), first_claim, parts);
      claims = claims.subspan(count);
      first_claim += count;
    }
  }

  // Sums full groups by Note [Affine levels]; false, and nothing done, if a difference is zero.
  bool sum_batch(std::span<const Claim> claims, size_t first_claim) noexcept {
    const size_t num_groups = claims.size() / kLanes;
    AffinePoint points[F::kBatchGroups][kWindows];
    for (size_t g = 0; g < num_groups; ++g) {
      Schedule plan;
      schedule(claims.subspan(g * kLanes, kLanes), 1, plan);
      for (int i = 0; i < kWindows; ++i) {
        Element y;
        F::load(plan.rows[i], points[g][i].x, y);
        points[g][i].y = F::negated(plan.is_negative[i], y);
      }
    }
    for (int level = 0; level < F::kAffineLevels; ++level)
      if (!add_neighbours(points, num_groups, 1 << level)) return false;
    constexpr int stride = 1 << F::kAffineLevels;
    for (size_t g = 0; g < num_groups; ++g) {
      const AffinePoint* own = points[g];
      auto sum = PointSum<F>::of_two(own[0].x, own[0].y, own[stride].x, own[stride].y, 0);
      for (int i = 2 * stride; i < kWindows; i += stride) sum.add(own[i].x, own[i].y, 0);
      take(claims.subspan(g * kLanes, kLanes), first_claim + g * kLanes, sum);
    }
    return true;
  }

  // points[g][i] += points[g][i + stride] for each multiple i of 2 stride.
  static bool add_neighbours(AffinePoint (&points)[F::kBatchGroups][kWindows], size_t num_groups,
                             int stride) noexcept {
    Element before[F::kBatchGroups][kWindows / 2];
    Element product = F::one();
    for (size_t g = 0; g < num_groups; ++g) {
      for (int i = 0; i + stride < kWindows; i += 2 * stride) {
        before[g][i / (2 * stride)] = product;
        product = F::multiply(product, F::difference(points[g][i + stride].x, points[g][i].x));
      }
    }
    if (F::is_zero(product)) return false;
    Element inverse = inverted(product);
    for (size_t g = num_groups; g-- > 0;) {
      const int num_pairs = (kWindows + stride - 1) / (2 * stride);
      for (int pair = num_pairs - 1; pair >= 0; --pair) {
        AffinePoint& a = points[g][pair * 2 * stride];
        const AffinePoint& b = points[g][pair * 2 * stride + stride];
        const Element own_inverse = F::multiply(inverse, before[g][pair]);
        inverse = F::multiply(inverse, F::difference(b.x, a.x));
        const Element slope = F::multiply(F::difference(b.y, a.y), own_inverse);
        const Element x = F::compact_third(F::square(slope), a.x, b.x);
        a.y = F::compact_difference(F::multiply(slope, F::difference(a.x, x)), a.y);
        a.x = x;
      }
    }
    return true;
  }

  // With few claims, several lanes share one: its terms are dealt to `parts` lanes.
  static int parts_for(size_t num_claims) noexcept {
    int parts = 1;
    while (num_claims * parts * 2 <= kLanes) parts *= 2;
    return parts;
  }

  // Lane part * (lanes / parts) + i adds that part of the terms of claim i; lanes without a claim
  // repeat claim 0. Returns the number of steps. The rows begin to come from memory meanwhile.
  int schedule(std::span<const Claim> claims, int parts, Schedule& out) const noexcept {
    Term terms[kLanes][kWindows];
    for (size_t i = 0; i < claims.size(); ++i)
      list_terms(generator_, signer_, claims[i].u1, claims[i].u2, terms[i]);
    const int num_steps = (kWindows + parts - 1) / parts;
    const size_t lanes_a_part = kLanes / parts;
    for (int step = 0; step < num_steps; ++step) out.is_negative[step] = out.is_active[step] = 0;
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const size_t claim = lane % lanes_a_part;
      const Term* own = terms[claim < claims.size() ? claim : 0];
      const int part = static_cast<int>(lane / lanes_a_part);
      const int begin = kWindows * part / parts, end = kWindows * (part + 1) / parts;
      for (int step = 0; step < num_steps; ++step) {
        const bool is_active = begin + step < end;
        const Term& term = own[is_active ? begin + step : begin];
        __builtin_prefetch(term.row);
        out.rows[step][lane] = term.row;
        out.is_negative[step] |= static_cast<Mask>(term.is_negative << lane);
        out.is_active[step] |= static_cast<Mask>(is_active << lane);
      }
    }
    return num_steps;
  }

  void sum_group(std::span<const Claim> claims, size_t first_claim, int parts) noexcept {
    Schedule plan;
    const int num_steps = schedule(claims, parts, plan);
    constexpr Mask all = static_cast<Mask>((1u << kLanes) - 1);
    Element x1, y1, x2, y2;
    F::load(plan.rows[0], x1, y1);
    F::load(plan.rows[1], x2, y2);
    auto sum = PointSum<F>::of_two(x1, F::negated(plan.is_negative[0], y1), x2, y2,
                                   plan.is_negative[1]);
    for (int step = 2; step < num_steps; ++step) {
      F::load(plan.rows[step], x2, y2);
      if (plan.is_active[step] == all) {
        sum.add(x2, y2, plan.is_negative[step]);
        continue;
      }
      const auto before = sum;
      sum.add(x2, y2, plan.is_negative[step]);
      sum = selected(plan.is_active[step], sum, before);
    }
    for (int lanes = kLanes / 2; lanes >= static_cast<int>(kLanes) / parts; lanes /= 2) {
      if (lanes == 0) break;
      sum.add(rotated(sum, lanes));
    }
    take(claims, first_claim, sum);
  }

  void take(std::span<const Claim> claims, size_t first_claim,
            const PointSum<F>& sum) noexcept {
    Uint256 r[kLanes] = {};
    for (size_t i = 0; i < claims.size(); ++i) r[i] = claims[i].r;
    Group& group = groups_[num_groups_++];
    group.first_claim = first_claim;
    group.num_claims = claims.size();
    group.has_same_x =
        F::is_zero(F::difference(sum.x, F::multiply(F::lanes_from(r), sum.zz)));
    group.is_spoilt = F::is_zero(sum.zz);
    group.y = sum.y;
    group.zzz = F::select(group.is_spoilt, F::one(), sum.zzz);
  }

  // One inversion for all groups and lanes gives each y.
  void decide(std::span<const Claim> claims, std::span<uint8_t> accepted) noexcept {
    Element product = F::one();
    for (size_t g = 0; g < num_groups_; ++g) {
      groups_[g].product = product;
      product = F::multiply(product, groups_[g].zzz);
    }
    Element inverse = inverted(product);
    for (size_t g = num_groups_; g-- > 0;) {
      const Group& group = groups_[g];
      const Element y = F::multiply(group.y, F::multiply(inverse, group.product));
      inverse = F::multiply(inverse, group.zzz);
      const Mask is_odd = F::parity(y);
      const Mask is_candidate = group.has_same_x & static_cast<Mask>(~group.is_spoilt);
      for (size_t i = 0; i < group.num_claims; ++i) {
        const size_t claim = group.first_claim + i;
        accepted[claim] = (is_candidate >> i & 1) && (is_odd >> i & 1) == claims[claim].y_is_odd;
      }
    }
  }

  static Element inverted(const Element& a) noexcept {
    Uint256 values[kLanes], before[kLanes];
    F::store(a, values);
    Uint256 product{{1}};
    for (size_t lane = 0; lane < kLanes; ++lane) {
      before[lane] = product;
      product = field_multiply(product, values[lane]);
    }
    Uint256 inverse = field_inverse(product);
    for (size_t lane = kLanes; lane-- > 0;) {
      const Uint256 value = values[lane];
      values[lane] = field_multiply(inverse, before[lane]);
      inverse = field_multiply(inverse, value);
    }
    return F::lanes_from(values);
  }

  static PointSum<F> selected(Mask mask, const PointSum<F>& a, const PointSum<F>& b) noexcept {
    return {F::select(mask, a.x, b.x), F::select(mask, a.y, b.y), F::select(mask, a.zz, b.zz),
            F::select(mask, a.zzz, b.zzz)};
  }
  static PointSum<F> rotated(const PointSum<F>& a, int lanes) noexcept {
    return {F::rotated(a.x, lanes), F::rotated(a.y, lanes), F::rotated(a.zz, lanes),
            F::rotated(a.zzz, lanes)};
  }

  const GeneratorTable& generator_;
  const SignerTable& signer_;
  size_t num_groups_ = 0;
  Group groups_[kMaxGroups];
};

}  // namespace lpnode::ticket
