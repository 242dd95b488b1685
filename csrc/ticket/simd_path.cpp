#include "ticket/simd_path.h"

#include <string>

#include "error.h"

namespace lpnode::ticket {

SimdPath best_simd_path() noexcept {
#ifdef LPNODE_X86
  // __builtin_cpu_supports asks cpuid and whether the operating system saves the wide registers.
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2");
  const bool has_ifma = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512ifma");
  if (has_avx2 && has_ifma) return SimdPath::kIfma;
  if (has_avx2) return SimdPath::kAvx2;
#endif
  return SimdPath::kPortable;
}

SimdPath simd_path_named(std::string_view name) {
  const SimdPath best = best_simd_path();
  if (name == "auto") return best;
  for (const SimdPath path : {SimdPath::kPortable, SimdPath::kAvx2, SimdPath::kIfma}) {
    if (name != simd_path_name(path)) continue;
    if (path > best)
      throw NotBuilt("this machine does not run the " + std::string(name) +
                     " path; its best is " + std::string(simd_path_name(best)));
    return path;
  }
  throw InvalidArgument("path must be auto, portable, avx2 or ifma, got " + std::string(name));
}

std::string_view simd_path_name(SimdPath path) noexcept {
  switch (path) {
    case SimdPath::kIfma:
      return "ifma";
    case SimdPath::kAvx2:
      return "avx2";
    case SimdPath::kPortable:
      break;
  }
  return "portable";
}

}  // namespace lpnode::ticket
