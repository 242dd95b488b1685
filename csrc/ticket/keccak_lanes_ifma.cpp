#include <immintrin.h>

#include "ticket/keccak_lanes.h"
#include "ticket/keccak_permute.h"

namespace lpnode::ticket {
namespace {

struct Avx512Ops {
  using Word = __m512i;
  static Word exclusive_or(Word a, Word b) { return _mm512_xor_si512(a, b); }
  template <int bits>
  static Word rotated(Word a) {
    return _mm512_rol_epi64(a, bits);
  }
  // 0xd2 is the truth table of a ^ (~b & c).
  static Word chi(Word a, Word b, Word c) { return _mm512_ternarylogic_epi64(a, b, c, 0xd2); }
  static Word broadcast(uint64_t value) {
    return _mm512_set1_epi64(static_cast<long long>(value));
  }
};

}  // namespace

void permute_lanes_ifma(KeccakLanes& lanes, size_t) noexcept {
  __m512i state[kKeccakWords];
  for (size_t w = 0; w < kKeccakWords; ++w) state[w] = _mm512_load_si512(lanes.word[w]);
  keccak_permute<Avx512Ops>(state);
  for (size_t w = 0; w < kKeccakWords; ++w) _mm512_store_si512(lanes.word[w], state[w]);
}

}  // namespace lpnode::ticket
