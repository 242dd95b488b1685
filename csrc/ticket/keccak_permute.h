// Keccak-f[1600] over words of any width: one state, or one state a vector element.
#pragma once

#include <bit>
#include <utility>

#include "ticket/keccak_constants.h"

namespace lpnode::ticket {

// Ops: Word, and static exclusive_or(a, b), rotated<bits>(a), chi(a, b, c) = a ^ (~b & c),
// broadcast(uint64_t).
template <typename Ops>
inline void keccak_permute(typename Ops::Word (&a)[kKeccakWords]) noexcept {
  using Word = typename Ops::Word;
  const auto mixed = [](Word p, Word q) { return Ops::exclusive_or(p, q); };
  for (const uint64_t constant : kKeccakConstants) {
    Word column[5];
#pragma GCC unroll 5
    for (int x = 0; x < 5; ++x)
      column[x] = mixed(mixed(mixed(a[x], a[x + 5]), mixed(a[x + 10], a[x + 15])), a[x + 20]);
#pragma GCC unroll 5
    for (int x = 0; x < 5; ++x) {
      const Word mix =
          mixed(column[(x + 4) % 5], Ops::template rotated<1>(column[(x + 1) % 5]));
#pragma GCC unroll 5
      for (int y = 0; y < 25; y += 5) a[x + y] = mixed(a[x + y], mix);
    }
    Word carried = a[1];
    const auto walk = [&]<size_t... t>(std::index_sequence<t...>) {
      const auto step = [&]<size_t k>(std::integral_constant<size_t, k>) {
        const Word displaced = a[kKeccakWalk[k].word];
        a[kKeccakWalk[k].word] = Ops::template rotated<kKeccakWalk[k].rotation>(carried);
        carried = displaced;
      };
      (step(std::integral_constant<size_t, t>{}), ...);
    };
    walk(std::make_index_sequence<24>{});
#pragma GCC unroll 5
    for (int y = 0; y < 25; y += 5) {
      const Word row[5] = {a[y], a[y + 1], a[y + 2], a[y + 3], a[y + 4]};
#pragma GCC unroll 5
      for (int x = 0; x < 5; ++x) a[x + y] = Ops::chi(row[x], row[(x + 1) % 5], row[(x + 2) % 5]);
    }
    a[0] = mixed(a[0], Ops::broadcast(constant));
  }
}

// One state.
struct KeccakScalar {
  using Word = uint64_t;
  static Word exclusive_or(Word a, Word b) { return a ^ b; }
  template <int bits>
  static Word rotated(Word a) {
    return std::rotl(a, bits);
  }
  static Word chi(Word a, Word b, Word c) { return a ^ (~b & c); }
  static Word broadcast(uint64_t value) { return value; }
};

}  // namespace lpnode::ticket
