// The implementations that edge_style chooses from; the style has been checked.
#pragma once

#include "effect/edge_style.h"

namespace lpnode::effect {

void edge_style_portable(const EdgeStyle& style, int width, int height, const float* frame,
                         float* out) noexcept;
void edge_style_avx2(const EdgeStyle& style, int width, int height, const float* frame,
                     float* out) noexcept;

}  // namespace lpnode::effect
