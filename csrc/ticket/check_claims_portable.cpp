#include "ticket/check_claims.h"
#include "ticket/field_scalar.h"

namespace lpnode::ticket {

void check_claims_portable(const GeneratorTable& generator, const SignerTable& signer,
                           std::span<const Claim> claims, std::span<uint8_t> accepted) noexcept {
  ClaimCheck<FieldScalar>(generator, signer).run(claims, accepted);
}

}  // namespace lpnode::ticket
