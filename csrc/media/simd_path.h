// Which instruction set the frame conversions use, chosen at run time.
#pragma once

#include <string_view>

namespace lpnode::media {

enum class SimdPath { kPortable, kAvx2, kAvx512 };

// The fastest path this processor and operating system run.
[[nodiscard]] SimdPath best_simd_path() noexcept;

// "auto" (the best one), "portable", "avx2" or "avx512".
// Throws InvalidArgument for another name, NotBuilt for a path this machine cannot run.
[[nodiscard]] SimdPath simd_path_named(std::string_view name);

[[nodiscard]] std::string_view simd_path_name(SimdPath path) noexcept;

}  // namespace lpnode::media
