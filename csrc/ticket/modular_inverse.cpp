#include "ticket/modular_inverse.h"

#include <algorithm>
#include <bit>
#include <utility>

namespace lpnode::ticket {
namespace {

using Limbs = std::array<int64_t, 5>;  // signed, 62 bits each but for the last
using Wide = __int128;

constexpr int kSteps = 62;
constexpr uint64_t kMask = ~uint64_t{0} >> 2;

// 2^62 times the product of 62 division steps: (f, g) -> (u f + v g, q f + r g) / 2^62.
struct Transition {
  int64_t u, v, q, r;
};

// Runs 62 division steps on the low words of f (odd) and g. delta is the paper's.
Transition division_steps(int64_t& delta, uint64_t f, uint64_t g) noexcept {
  uint64_t u = 1, v = 0, q = 0, r = 1;
  int left = kSteps;
  for (;;) {
    const int zeros = std::countr_zero(g | ~uint64_t{0} << left);
    g >>= zeros;
    u <<= zeros;
    v <<= zeros;
    delta += zeros;
    left -= zeros;
    if (left == 0) break;
    if (delta > 0) {
      delta = -delta;
      f = std::exchange(g, -f);
      u = std::exchange(q, -u);
      v = std::exchange(r, -v);
    }
    // With delta <= 0 the next 1 - delta steps do not swap: add the multiple of f that clears as
    // many low bits of g, up to six, because f (2 - f^2) is the inverse of f modulo 64.
    const int clear = static_cast<int>(std::min<int64_t>({1 - delta, left, 6}));
    const uint64_t multiple = (g * f * (f * f - 2)) & ((uint64_t{1} << clear) - 1);
    g += f * multiple;
    q += u * multiple;
    r += v * multiple;
  }
  return {static_cast<int64_t>(u), static_cast<int64_t>(v), static_cast<int64_t>(q),
          static_cast<int64_t>(r)};
}

void apply(const Transition& t, Limbs& f, Limbs& g) noexcept {
  Wide sum_f = static_cast<Wide>(t.u) * f[0] + static_cast<Wide>(t.v) * g[0];
  Wide sum_g = static_cast<Wide>(t.q) * f[0] + static_cast<Wide>(t.r) * g[0];
  for (int i = 1; i < 5; ++i) {
    sum_f >>= kSteps;
    sum_g >>= kSteps;
    sum_f += static_cast<Wide>(t.u) * f[i] + static_cast<Wide>(t.v) * g[i];
    sum_g += static_cast<Wide>(t.q) * f[i] + static_cast<Wide>(t.r) * g[i];
    f[i - 1] = static_cast<int64_t>(static_cast<uint64_t>(sum_f) & kMask);
    g[i - 1] = static_cast<int64_t>(static_cast<uint64_t>(sum_g) & kMask);
  }
  f[4] = static_cast<int64_t>(sum_f >> kSteps);
  g[4] = static_cast<int64_t>(sum_g >> kSteps);
}

// The same modulo m, for d and e in (-2m, m): the multiple of m that makes the sum divisible by
// 2^62 is added, after m itself where an operand is negative, which keeps the result in range.
void apply_modulo(const Transition& t, Limbs& d, Limbs& e, const InverseModulus& m) noexcept {
  const int64_t d_sign = d[4] >> 63, e_sign = e[4] >> 63;
  int64_t add_d = (t.u & d_sign) + (t.v & e_sign);
  int64_t add_e = (t.q & d_sign) + (t.r & e_sign);
  Wide sum_d = static_cast<Wide>(t.u) * d[0] + static_cast<Wide>(t.v) * e[0];
  Wide sum_e = static_cast<Wide>(t.q) * d[0] + static_cast<Wide>(t.r) * e[0];
  add_d -= static_cast<int64_t>(
      (m.inverse62 * static_cast<uint64_t>(sum_d) + static_cast<uint64_t>(add_d)) & kMask);
  add_e -= static_cast<int64_t>(
      (m.inverse62 * static_cast<uint64_t>(sum_e) + static_cast<uint64_t>(add_e)) & kMask);
  sum_d += static_cast<Wide>(m.limb[0]) * add_d;
  sum_e += static_cast<Wide>(m.limb[0]) * add_e;
  for (int i = 1; i < 5; ++i) {
    sum_d >>= kSteps;
    sum_e >>= kSteps;
    sum_d += static_cast<Wide>(t.u) * d[i] + static_cast<Wide>(t.v) * e[i] +
             static_cast<Wide>(m.limb[i]) * add_d;
    sum_e += static_cast<Wide>(t.q) * d[i] + static_cast<Wide>(t.r) * e[i] +
             static_cast<Wide>(m.limb[i]) * add_e;
    d[i - 1] = static_cast<int64_t>(static_cast<uint64_t>(sum_d) & kMask);
    e[i - 1] = static_cast<int64_t>(static_cast<uint64_t>(sum_e) & kMask);
  }
  d[4] = static_cast<int64_t>(sum_d >> kSteps);
  e[4] = static_cast<int64_t>(sum_e >> kSteps);
}

void carry(Limbs& a) noexcept {
  for (int i = 0; i < 4; ++i) {
    a[i + 1] += a[i] >> kSteps;
    a[i] = static_cast<int64_t>(static_cast<uint64_t>(a[i]) & kMask);
  }
}

void add_if_negative(Limbs& a, const Limbs& modulus) noexcept {
  if (a[4] >= 0) return;
  for (int i = 0; i < 5; ++i) a[i] += modulus[i];
  carry(a);
}

}  // namespace

Uint256 modular_inverse(const Uint256& value, const InverseModulus& modulus) noexcept {
  Limbs d{}, e{1}, f = modulus.limb, g = inverse_modulus(value).limb;
  int64_t delta = 1;
  while (g[0] | g[1] | g[2] | g[3] | g[4]) {
    const Transition t =
        division_steps(delta, static_cast<uint64_t>(f[0]), static_cast<uint64_t>(g[0]));
    apply_modulo(t, d, e, modulus);
    apply(t, f, g);
  }
  // f is 1 or -1 (or the modulus, for 0), and d is f times the inverse.
  add_if_negative(d, modulus.limb);
  if (f[4] < 0) {
    for (int64_t& limb : d) limb = -limb;
    carry(d);
  }
  add_if_negative(d, modulus.limb);
  const auto word = [&d](int i) { return static_cast<uint64_t>(d[i]); };
  return {{word(0) | word(1) << 62, word(1) >> 2 | word(2) << 60, word(2) >> 4 | word(3) << 58,
           word(3) >> 6 | word(4) << 56}};
}

}  // namespace lpnode::ticket
