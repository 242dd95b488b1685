// One 2x2 block of rgb_to_yuv in float32; compiled for the device and, in tests, for the host.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/colour_matrix.h"
#include "kernels/host_device.h"

namespace lpnode::kernels {

// Planes that are written; columns of chroma are `chroma_step` bytes apart: 1 for I420, 2 for NV12.
struct MutableYuvPlanes {
  uint8_t *y, *u, *v;
  ptrdiff_t y_pitch_bytes, u_pitch_bytes, v_pitch_bytes;
  int chroma_step;
  int width, height;
};

struct RgbToYuvParams {
  RgbToYuvMatrix matrix;
  float scale, offset;  // from the given range to 0..255
};

inline RgbToYuvParams rgb_to_yuv_params(const RgbToYuvMatrix& matrix, float black, float white) {
  const float scale = 255.0f / (white - black);
  return {matrix, scale, -black * scale};
}

// To 0..255. The order of the comparisons makes NaN black.
LPNODE_HOST_DEVICE inline float to_level(float value, const RgbToYuvParams& params) {
  float level = value * params.scale + params.offset;
  level = level > 0.0f ? level : 0.0f;
  return level < 255.0f ? level : 255.0f;
}

LPNODE_HOST_DEVICE inline uint8_t round_level(float level) {
  level = level > 0.0f ? level : 0.0f;
  return static_cast<uint8_t>(level < 255.0f ? level + 0.5f : 255.0f);
}

// Column and row of the block are in chroma samples. `load(colour, x, y)` gives the input at a pixel,
// colour 0 for red. Edges are repeated where a size is odd.
template <typename Load>
LPNODE_HOST_DEVICE inline void rgb_to_yuv_block(const MutableYuvPlanes& out,
                                                const RgbToYuvParams& params, int column, int row,
                                                const Load& load) {
  const RgbToYuvMatrix& m = params.matrix;
  float red = 0.0f, green = 0.0f, blue = 0.0f;
  for (int i = 0; i < 4; ++i) {
    const int wanted_x = 2 * column + i % 2, wanted_y = 2 * row + i / 2;
    const int x = wanted_x < out.width ? wanted_x : out.width - 1;
    const int y = wanted_y < out.height ? wanted_y : out.height - 1;
    const float r = to_level(load(0, x, y), params);
    const float g = to_level(load(1, x, y), params);
    const float b = to_level(load(2, x, y), params);
    if (x == wanted_x && y == wanted_y)
      out.y[y * out.y_pitch_bytes + x] =
          round_level(m.luma_offset + m.y_r * r + m.y_g * g + m.y_b * b);
    red += 0.25f * r;
    green += 0.25f * g;
    blue += 0.25f * b;
  }
  const ptrdiff_t at = column * ptrdiff_t{out.chroma_step};
  out.u[row * out.u_pitch_bytes + at] =
      round_level(128.0f + m.u_r * red + m.u_g * green + m.u_b * blue);
  out.v[row * out.v_pitch_bytes + at] =
      round_level(128.0f + m.v_r * red + m.v_g * green + m.v_b * blue);
}

}  // namespace lpnode::kernels
