#include <immintrin.h>

#include "ticket/keccak_lanes.h"
#include "ticket/keccak_permute.h"

namespace lpnode::ticket {
namespace {

struct Avx2Ops {
  using Word = __m256i;
  static Word exclusive_or(Word a, Word b) { return _mm256_xor_si256(a, b); }
  template <int bits>
  static Word rotated(Word a) {
    return _mm256_or_si256(_mm256_slli_epi64(a, bits), _mm256_srli_epi64(a, 64 - bits));
  }
  static Word chi(Word a, Word b, Word c) { return _mm256_xor_si256(a, _mm256_andnot_si256(b, c)); }
  static Word broadcast(uint64_t value) {
    return _mm256_set1_epi64x(static_cast<long long>(value));
  }
};

}  // namespace

void permute_lanes_avx2(KeccakLanes& lanes, size_t count) noexcept {
  for (size_t half = 0; half < count; half += 4) {
    __m256i state[kKeccakWords];
    for (size_t w = 0; w < kKeccakWords; ++w)
      state[w] = _mm256_load_si256(reinterpret_cast<const __m256i*>(&lanes.word[w][half]));
    keccak_permute<Avx2Ops>(state);
    for (size_t w = 0; w < kKeccakWords; ++w)
      _mm256_store_si256(reinterpret_cast<__m256i*>(&lanes.word[w][half]), state[w]);
  }
}

}  // namespace lpnode::ticket
