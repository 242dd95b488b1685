#include "media/simd_path.h"

#include <string>

#include "error.h"

namespace lpnode::media {

SimdPath best_simd_path() noexcept {
#ifdef LPNODE_X86
  // __builtin_cpu_supports asks cpuid and whether the operating system saves the wide registers.
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                        __builtin_cpu_supports("f16c");
  const bool has_avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (has_avx2 && has_avx512) return SimdPath::kAvx512;
  if (has_avx2) return SimdPath::kAvx2;
#endif
  return SimdPath::kPortable;
}

SimdPath simd_path_named(std::string_view name) {
  const SimdPath best = best_simd_path();
  if (name == "auto") return best;
  for (const SimdPath path : {SimdPath::kPortable, SimdPath::kAvx2, SimdPath::kAvx512}) {
    if (name != simd_path_name(path)) continue;
    if (path > best)
      throw NotBuilt("this machine does not run the " + std::string(name) +
                     " path; its best is " + std::string(simd_path_name(best)));
    return path;
  }
  throw InvalidArgument("path must be auto, portable, avx2 or avx512, got " + std::string(name));
}

std::string_view simd_path_name(SimdPath path) noexcept {
  switch (path) {
    case SimdPath::kAvx512:
      return "avx512";
    case SimdPath::kAvx2:
      return "avx2";
    case SimdPath::kPortable:
      break;
  }
  return "portable";
}

}  // namespace lpnode::media
