#include "effect/edge_style_rows.h"

namespace lpnode::effect {

void edge_style_avx2(const EdgeStyle& style, int width, int height, const float* frame,
                     float* out) noexcept {
  draw(style, width, height, frame, out);
}

}  // namespace lpnode::effect
