// The instruction sets that ticket verification is written for.
#pragma once

#include "simd_path.h"

namespace lpnode::ticket {

inline constexpr SimdPath kTicketPaths[] = {SimdPath::kPortable, SimdPath::kAvx2, SimdPath::kIfma};

}  // namespace lpnode::ticket
