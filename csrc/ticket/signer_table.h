// Multiples of points, from which u1 G + u2 P is summed without doubling.
//
// Note [Digits]: a scalar u is taken as b with 2 b - (2^256 - 1) = u modulo n, so that each bit of
// b counts +1 or -1. A window of w bits then is an odd digit d, |d| < 2^w, never zero, and the sum of
// d 2^(w i) is u: no window contributes the point at infinity. A table has the 2^(w-1) positive odd
// multiples of 2^(w i) P; the others are their mirror images.
//
// Note [Blinding]: a sender who knows the discrete logarithm of its key can choose signatures for
// which two points of such a sum coincide. So the first window of G has +B added to each row and
// the last one -B, for a secret B of the process (rows for all digits then, as mirroring would turn
// B round). Every partial sum that starts with the first window contains B, and nobody can aim at
// it. What still coincides (u1 G + u2 P at infinity, say) is seen as a zero and goes to recovery.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "ticket/curve.h"

namespace lpnode::ticket {

inline constexpr int kGeneratorBits = 13;  // 19 windows of 13 bits and one of 9: 5.3 MB
inline constexpr int kGeneratorWindows = 20;
inline constexpr int kGeneratorLastBits = 256 - kGeneratorBits * (kGeneratorWindows - 1);
inline constexpr int kSignerBits = 8;  // 32 windows: 256 KiB, built in about 1.5 ms
inline constexpr int kSignerWindows = 256 / kSignerBits;
inline constexpr int kWindows = kGeneratorWindows + kSignerWindows;
// Of the generator's terms these come before the signer's, and the rest after. Both counts are
// multiples of 16, so that up to sixteen neighbours are of one point.
inline constexpr int kFirstGeneratorTerms = 16;
static_assert(kFirstGeneratorTerms % 16 == 0 && kSignerWindows % 16 == 0);

// Multiples of G, blinded. Immutable.
class GeneratorTable {
 public:
  // secret: 32 random bytes of this process. Throws InvalidArgument if it is 0 modulo n.
  explicit GeneratorTable(const Hash32& secret);

  // Rows of window i: 2^13 of the first, 2^9 of the last, 2^12 of each other.
  [[nodiscard]] const Point* window(int i) const noexcept { return rows_.data() + offsets_[i]; }
  [[nodiscard]] size_t num_bytes() const noexcept { return rows_.size() * sizeof(Point); }

 private:
  std::vector<Point> rows_;
  std::array<size_t, kGeneratorWindows> offsets_;
};

// Multiples of a sender's public key. Immutable.
class SignerTable {
 public:
  static constexpr size_t kWindowRows = size_t{1} << (kSignerBits - 1);
  static constexpr size_t kBytes = kSignerWindows * kWindowRows * sizeof(Point);

  // Throws InvalidArgument if the key is no point of the curve.
  explicit SignerTable(const PublicKey& key);

  [[nodiscard]] const Point* window(int i) const noexcept { return rows_.data() + i * kWindowRows; }

 private:
  std::vector<Point> rows_;
};

// What is added for one window: a row, or its mirror image.
struct Term {
  const Point* row;
  bool is_negative;
};

// The terms whose sum is u1 G + u2 P: first +B, last -B (Note [Blinding]). u1, u2: below n.
void list_terms(const GeneratorTable& generator, const SignerTable& signer, const Uint256& u1,
                const Uint256& u2, std::span<Term, kWindows> terms) noexcept;

}  // namespace lpnode::ticket
