// The instruction sets that both frame conversions are written for.
#pragma once

#include "simd_path.h"

namespace lpnode::media {

inline constexpr SimdPath kFramePaths[] = {SimdPath::kPortable, SimdPath::kAvx2, SimdPath::kAvx512};

}  // namespace lpnode::media
