#include "ticket/check_claims.h"
#include "ticket/field_ifma.h"

namespace lpnode::ticket {

void check_claims_ifma(const GeneratorTable& generator, const SignerTable& signer,
                       std::span<const Claim> claims, std::span<uint8_t> accepted) noexcept {
  ClaimCheck<FieldIfma>(generator, signer).run(claims, accepted);
}

}  // namespace lpnode::ticket
