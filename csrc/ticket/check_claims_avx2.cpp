// The portable code, compiled for processors with AVX2, whose MULX leaves the flags to the carries.
#include "ticket/check_claims.h"
#include "ticket/field_scalar.h"

namespace lpnode::ticket {
namespace {

struct ThisFile;

}  // namespace

void check_claims_avx2(const GeneratorTable& generator, const SignerTable& signer,
                       std::span<const Claim> claims, std::span<uint8_t> accepted) noexcept {
  ClaimCheck<FieldScalar<ThisFile>>(generator, signer).run(claims, accepted);
}

}  // namespace lpnode::ticket
