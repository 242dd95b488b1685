// 2x2 blocks of rgb_to_yuv in float32; compiled for the device and, in tests, for the host.
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

// The pixels of a 2x2 block as they were given, row by row.
struct RgbBlock {
  float red[4], green[4], blue[4];
};

// Column and row of the block are in chroma samples. `load(colour, x, y)` gives the input at a pixel,
// colour 0 for red. Edges are repeated where a size is odd.
template <typename Load>
LPNODE_HOST_DEVICE inline RgbBlock load_rgb_block(int width, int height, int column, int row,
                                                  const Load& load) {
  RgbBlock block;
  for (int i = 0; i < 4; ++i) {
    const int wanted_x = 2 * column + i % 2, wanted_y = 2 * row + i / 2;
    const int x = wanted_x < width ? wanted_x : width - 1;
    const int y = wanted_y < height ? wanted_y : height - 1;
    block.red[i] = load(0, x, y);
    block.green[i] = load(1, x, y);
    block.blue[i] = load(2, x, y);
  }
  return block;
}

struct Pair {
  float first, second;
};

// The same of an even size, where rows begin at pairs: `load(offset)` gives the two elements at an
// offset into the three planes.
template <typename LoadPair>
LPNODE_HOST_DEVICE inline RgbBlock load_rgb_pairs(int width, int height, int column, int row,
                                                  const LoadPair& load) {
  const ptrdiff_t plane = ptrdiff_t{width} * height;
  const ptrdiff_t first = 2 * (row * ptrdiff_t{width} + column);
  RgbBlock block;
  float* const colours[3] = {block.red, block.green, block.blue};
  for (int colour = 0; colour < 3; ++colour) {
    const Pair upper = load(colour * plane + first);
    const Pair lower = load(colour * plane + first + width);
    colours[colour][0] = upper.first;
    colours[colour][1] = upper.second;
    colours[colour][2] = lower.first;
    colours[colour][3] = lower.second;
  }
  return block;
}

struct YuvBlock {
  uint8_t y[4], u, v;
};

LPNODE_HOST_DEVICE inline YuvBlock rgb_to_yuv_block(const RgbToYuvParams& params,
                                                    const RgbBlock& rgb) {
  const RgbToYuvMatrix& m = params.matrix;
  YuvBlock out;
  float red = 0.0f, green = 0.0f, blue = 0.0f;
  for (int i = 0; i < 4; ++i) {
    const float r = to_level(rgb.red[i], params);
    const float g = to_level(rgb.green[i], params);
    const float b = to_level(rgb.blue[i], params);
    out.y[i] = round_level(m.luma_offset + m.y_r * r + m.y_g * g + m.y_b * b);
    red += 0.25f * r;
    green += 0.25f * g;
    blue += 0.25f * b;
  }
  out.u = round_level(128.0f + m.u_r * red + m.u_g * green + m.u_b * blue);
  out.v = round_level(128.0f + m.v_r * red + m.v_g * green + m.v_b * blue);
  return out;
}

// Writes what of the block lies inside the picture.
LPNODE_HOST_DEVICE inline void store_yuv_block(const MutableYuvPlanes& out, int column, int row,
                                               const YuvBlock& block) {
  for (int i = 0; i < 4; ++i) {
    const int x = 2 * column + i % 2, y = 2 * row + i / 2;
    if (x < out.width && y < out.height) out.y[y * out.y_pitch_bytes + x] = block.y[i];
  }
  const ptrdiff_t at = column * ptrdiff_t{out.chroma_step};
  out.u[row * out.u_pitch_bytes + at] = block.u;
  out.v[row * out.v_pitch_bytes + at] = block.v;
}

struct alignas(2) BytePair {
  uint8_t first, second;
};

// Whether `store_yuv_pairs` may write this picture: its size is even and its pairs start at even
// addresses.
LPNODE_HOST_DEVICE inline bool stores_pairs(const MutableYuvPlanes& out) {
  const auto is_even = [](const uint8_t* plane, ptrdiff_t pitch_bytes) {
    return reinterpret_cast<uintptr_t>(plane) % 2 == 0 && pitch_bytes % 2 == 0;
  };
  if (out.width % 2 || out.height % 2 || !is_even(out.y, out.y_pitch_bytes)) return false;
  return out.chroma_step == 1 || (out.v == out.u + 1 && is_even(out.u, out.u_pitch_bytes));
}

// As store_yuv_block, two neighbours in one access.
LPNODE_HOST_DEVICE inline void store_yuv_pairs(const MutableYuvPlanes& out, int column, int row,
                                               const YuvBlock& block) {
  uint8_t* const luma = out.y + 2 * (row * out.y_pitch_bytes + column);
  *reinterpret_cast<BytePair*>(luma) = {block.y[0], block.y[1]};
  *reinterpret_cast<BytePair*>(luma + out.y_pitch_bytes) = {block.y[2], block.y[3]};
  uint8_t* const u = out.u + row * out.u_pitch_bytes + column * ptrdiff_t{out.chroma_step};
  if (out.chroma_step == 2) {
    *reinterpret_cast<BytePair*>(u) = {block.u, block.v};
  } else {
    *u = block.u;
    out.v[row * out.v_pitch_bytes + column] = block.v;
  }
}

}  // namespace lpnode::kernels
