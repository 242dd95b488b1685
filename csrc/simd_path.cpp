#include "simd_path.h"

#include <string>

#ifdef LPNODE_X86
#include <cpuid.h>
#endif

#include "error.h"

namespace lpnode {
namespace {

// "auto, portable, avx2 or ifma"
std::string listed(std::span<const SimdPath> paths) {
  std::string text = "auto";
  for (const SimdPath path : paths) {
    text += path == paths.back() ? " or " : ", ";
    text += simd_path_name(path);
  }
  return text;
}

#ifdef LPNODE_X86
// Clang's __builtin_cpu_supports does not know this one. Asked once: under a hypervisor cpuid takes
// as long as a frame.
bool has_f16c() noexcept {
  static const bool answer = [] {
    unsigned eax, ebx, ecx, edx;
    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
  }();
  return answer;
}
#endif

}  // namespace

bool runs(SimdPath path) noexcept {
#ifdef LPNODE_X86
  // __builtin_cpu_supports knows what cpuid said, and whether the operating system saves the wide
  // registers.
  switch (path) {
    case SimdPath::kIfma:
      return __builtin_cpu_supports("avx512ifma") && runs(SimdPath::kAvx512);
    case SimdPath::kAvx512:
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
             runs(SimdPath::kAvx2);
    case SimdPath::kAvx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
             __builtin_cpu_supports("bmi2") && has_f16c();
    case SimdPath::kPortable:
      break;
  }
#endif
  return path == SimdPath::kPortable;
}

SimdPath best_simd_path(std::span<const SimdPath> paths) noexcept {
  SimdPath best = SimdPath::kPortable;
  for (const SimdPath path : paths)
    if (runs(path)) best = path;
  return best;
}

SimdPath simd_path_named(std::string_view name, std::span<const SimdPath> paths) {
  const SimdPath best = best_simd_path(paths);
  if (name == "auto") return best;
  for (const SimdPath path : paths) {
    if (name != simd_path_name(path)) continue;
    if (!runs(path))
      throw NotBuilt("this machine does not run the " + std::string(name) +
                     " path; its best is " + std::string(simd_path_name(best)));
    return path;
  }
  throw InvalidArgument("path must be " + listed(paths) + ", got " + std::string(name));
}

std::string_view simd_path_name(SimdPath path) noexcept {
  switch (path) {
    case SimdPath::kIfma:
      return "ifma";
    case SimdPath::kAvx512:
      return "avx512";
    case SimdPath::kAvx2:
      return "avx2";
    case SimdPath::kPortable:
      break;
  }
  return "portable";
}

}  // namespace lpnode
