#include "ticket/check_claims.h"
#include "ticket/field_avx2.h"

namespace lpnode::ticket {

void check_claims_avx2(const GeneratorTable& generator, const SignerTable& signer,
                       std::span<const Claim> claims, std::span<uint8_t> accepted) noexcept {
  ClaimCheck<FieldAvx2>(generator, signer).run(claims, accepted);
}

}  // namespace lpnode::ticket
