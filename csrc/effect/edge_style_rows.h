// The loops of edge_style, written for the compiler to vectorise. Included once for each instruction
// set; everything here is private to the including file, so that no wider code can leak elsewhere.
#pragma once

#include <cstddef>

#include "effect/edge_style_paths.h"

namespace lpnode::effect {
namespace {

// One row of luma with a repeated pixel at either end.
struct LumaRow {
  float values[kMaxWidth + 2];
};

inline float unit(float value) {
  value = value > 0.0f ? value : 0.0f;
  return value < 1.0f ? value : 1.0f;
}

void fill_luma(const float* __restrict red, const float* __restrict green,
               const float* __restrict blue, int width, LumaRow& row) {
  float* __restrict luma = row.values + 1;
  for (int x = 0; x < width; ++x)
    luma[x] = 0.299f * unit(red[x]) + 0.587f * unit(green[x]) + 0.114f * unit(blue[x]);
  row.values[0] = luma[0];
  row.values[width + 1] = luma[width - 1];
}

// How solid the line is at each pixel, 0..1.
void find_lines(const EdgeStyle& style, const LumaRow& above, const LumaRow& here,
                const LumaRow& below, int width, float* __restrict lines) {
  const float* __restrict a = above.values;
  const float* __restrict h = here.values;
  const float* __restrict b = below.values;
  const float threshold = style.threshold, slope = 1.0f / style.softness;
  for (int x = 0; x < width; ++x) {
    const float across = (a[x + 2] - a[x]) + 2.0f * (h[x + 2] - h[x]) + (b[x + 2] - b[x]);
    const float down = (b[x] - a[x]) + 2.0f * (b[x + 1] - a[x + 1]) + (b[x + 2] - a[x + 2]);
    const float gradient = 0.25f * __builtin_sqrtf(across * across + down * down);
    lines[x] = unit((gradient - threshold) * slope);
  }
}

void paint(const float* __restrict in, const float* __restrict lines, int width, float strength,
           float levels, float tint, float ink, float* __restrict out) {
  const float steps = levels - 1.0f, tinted_step = tint / steps;
  for (int x = 0; x < width; ++x) {
    const float value = unit(in[x]);
    const float flat = static_cast<float>(static_cast<int>(value * steps + 0.5f)) * tinted_step;
    const float drawn = flat + lines[x] * (ink - flat);
    out[x] = value + strength * (drawn - value);
  }
}

void draw(const EdgeStyle& style, int width, int height, const float* frame, float* out) {
  const ptrdiff_t plane = ptrdiff_t{width} * height;
  const auto levels = static_cast<float>(style.levels);
  LumaRow rows[3];
  float lines[kMaxWidth];
  const auto fill = [&](int y) {
    const float* red = frame + ptrdiff_t{y} * width;
    fill_luma(red, red + plane, red + 2 * plane, width, rows[y % 3]);
  };
  fill(0);
  for (int y = 0; y < height; ++y) {
    const int above = y > 0 ? y - 1 : 0, below = y + 1 < height ? y + 1 : y;
    if (below != y) fill(below);
    find_lines(style, rows[above % 3], rows[y % 3], rows[below % 3], width, lines);
    const float* in = frame + ptrdiff_t{y} * width;
    float* to = out + ptrdiff_t{y} * width;
    paint(in, lines, width, style.strength, levels, style.tint.red, style.ink.red, to);
    paint(in + plane, lines, width, style.strength, levels, style.tint.green, style.ink.green,
          to + plane);
    paint(in + 2 * plane, lines, width, style.strength, levels, style.tint.blue, style.ink.blue,
          to + 2 * plane);
  }
}

}  // namespace
}  // namespace lpnode::effect
