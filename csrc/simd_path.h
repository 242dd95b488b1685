// Instruction sets that code is written for, chosen among at run time.
#pragma once

#include <span>
#include <string_view>

namespace lpnode {

enum class SimdPath {
  kPortable,
  kAvx2,    // with FMA, F16C and BMI2, as every such processor has them
  kAvx512,  // F, BW, VL and DQ (Skylake-X, Zen 4 and later)
  kIfma,    // AVX-512 with 52-bit integer multiply-add (Ice Lake, Zen 4 and later)
};

// Whether this processor and operating system run that path.
[[nodiscard]] bool runs(SimdPath path) noexcept;

// The last of `paths` that this machine runs: they are sorted, and begin with kPortable.
[[nodiscard]] SimdPath best_simd_path(std::span<const SimdPath> paths) noexcept;

// "auto" (the best one) or the name of one of `paths`.
// Throws InvalidArgument for another name, NotBuilt for a path this machine does not run.
[[nodiscard]] SimdPath simd_path_named(std::string_view name, std::span<const SimdPath> paths);

// "portable", "avx2", "avx512" or "ifma".
[[nodiscard]] std::string_view simd_path_name(SimdPath path) noexcept;

}  // namespace lpnode
