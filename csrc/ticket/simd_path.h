// Which instruction set ticket verification uses, chosen at run time.
#pragma once

#include <string_view>

namespace lpnode::ticket {

// kIfma: AVX-512 with 52-bit integer multiply-add (Ice Lake, Zen 4 and later).
enum class SimdPath { kPortable, kAvx2, kIfma };

// The fastest path this processor and operating system run.
[[nodiscard]] SimdPath best_simd_path() noexcept;

// "auto" (the best one), "portable", "avx2" or "ifma".
// Throws InvalidArgument for another name, NotBuilt for a path this machine cannot run.
[[nodiscard]] SimdPath simd_path_named(std::string_view name);

[[nodiscard]] std::string_view simd_path_name(SimdPath path) noexcept;

}  // namespace lpnode::ticket
