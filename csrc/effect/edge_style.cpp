#include "effect/edge_style.h"

#include <string>

#include "effect/edge_style_paths.h"
#include "error.h"
#include "simd_path.h"

namespace lpnode::effect {
namespace {

void check_unit(const char* name, float value) {
  if (!(value >= 0 && value <= 1))
    throw InvalidArgument(std::string(name) + " must be 0..1, got " + std::to_string(value));
}

void check(const EdgeStyle& style, int width, int height) {
  if (width < 1 || width > kMaxWidth || height < 1)
    throw InvalidArgument("frame must be 1.." + std::to_string(kMaxWidth) +
                          " wide and not empty, got " + std::to_string(width) + "x" +
                          std::to_string(height));
  check_unit("strength", style.strength);
  check_unit("threshold", style.threshold);
  if (!(style.softness > 0 && style.softness <= 1))
    throw InvalidArgument("softness must be above 0 and at most 1, got " +
                          std::to_string(style.softness));
  if (style.levels < 2 || style.levels > 256)
    throw InvalidArgument("levels must be 2..256, got " + std::to_string(style.levels));
  for (const Rgb& colour : {style.tint, style.ink}) {
    check_unit("red", colour.red);
    check_unit("green", colour.green);
    check_unit("blue", colour.blue);
  }
}

}  // namespace

void edge_style(const EdgeStyle& style, int width, int height, const float* frame, float* out) {
  check(style, width, height);
#ifdef LPNODE_X86
  if (runs(SimdPath::kAvx2)) return edge_style_avx2(style, width, height, frame, out);
#endif
  edge_style_portable(style, width, height, frame, out);
}

const char* edge_style_path() noexcept { return runs(SimdPath::kAvx2) ? "avx2" : "portable"; }

}  // namespace lpnode::effect
