// Whether signatures are those of a signer whose multiples are tabled.
#pragma once

#include <span>

#include "ticket/signature.h"
#include "ticket/signer_table.h"
#include "ticket/ticket_paths.h"

namespace lpnode::ticket {

inline constexpr size_t kMaxClaims = 64;  // a call

// What a signature (r, s, v) over z says of R = u1 G + u2 P, with u1 = z / s and u2 = r / s mod n.
struct Claim {
  Uint256 u1, u2;  // below n
  Uint256 r;       // below n: the x of R as an integer, not modulo n, as recovery takes it
  bool y_is_odd;   // of R
};

// The claims of signatures over 32-byte digests (z: the digest as an integer), with one inversion
// for all. Same length, at most kMaxClaims.
void list_claims(std::span<const Hash32> digests, std::span<const Signature> signatures,
                 std::span<Claim> claims) noexcept;

// accepted[i] = 1 if claim i is true, which is to say that recovery would yield P; else 0, also
// where the sum met an exception (Note [Blinding]) and says nothing. At most kMaxClaims of them.
// Does not allocate.
void check_claims_portable(const GeneratorTable& generator, const SignerTable& signer,
                           std::span<const Claim> claims, std::span<uint8_t> accepted) noexcept;
void check_claims_avx2(const GeneratorTable& generator, const SignerTable& signer,
                       std::span<const Claim> claims, std::span<uint8_t> accepted) noexcept;
void check_claims_ifma(const GeneratorTable& generator, const SignerTable& signer,
                       std::span<const Claim> claims, std::span<uint8_t> accepted) noexcept;

using CheckClaims = void (*)(const GeneratorTable&, const SignerTable&, std::span<const Claim>,
                             std::span<uint8_t>) noexcept;
[[nodiscard]] CheckClaims check_claims(SimdPath path) noexcept;

}  // namespace lpnode::ticket
