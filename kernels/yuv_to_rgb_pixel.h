// One output pixel of yuv_to_rgb in float32; compiled for the device and, in tests, for the host.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/colour_matrix.h"
#include "kernels/host_device.h"

namespace lpnode::kernels {

// 4:2:0 planes; a plane's columns are `chroma_step` bytes apart: 1 for I420, 2 for NV12, where
// v = u + 1 and the pitches are equal.
struct YuvPlanes {
  const uint8_t *y, *u, *v;
  ptrdiff_t y_pitch_bytes, u_pitch_bytes, v_pitch_bytes;
  int chroma_step;
  int width, height;
};

// Pixel (x, y) of the output is sampled at first + step * (x, y), in luma pixels whose centres are at
// whole numbers and a half.
struct YuvToRgbParams {
  float first_x, first_y, step_x, step_y;
  YuvToRgbMatrix matrix;
  float scale, offset;  // from 0..255 to the wanted range
  int width, height;
};

// The part of the source with corner (x, y) and size, stretched over width x height.
inline YuvToRgbParams yuv_to_rgb_params(double x, double y, double crop_width, double crop_height,
                                        int width, int height, const YuvToRgbMatrix& matrix,
                                        float black, float white) {
  const double step_x = crop_width / width, step_y = crop_height / height;
  return {static_cast<float>(x + 0.5 * step_x),
          static_cast<float>(y + 0.5 * step_y),
          static_cast<float>(step_x),
          static_cast<float>(step_y),
          matrix,
          (white - black) / 255.0f,
          black,
          width,
          height};
}

struct RgbPixel {
  float red, green, blue;
};

LPNODE_HOST_DEVICE inline float clamp_to(float value, float low, float high) {
  value = value > low ? value : low;
  return value < high ? value : high;
}

LPNODE_HOST_DEVICE inline float sample_plane(const uint8_t* plane, ptrdiff_t pitch_bytes, int step,
                                             int columns, int rows, float x, float y) {
  x = clamp_to(x - 0.5f, 0.0f, static_cast<float>(columns - 1));
  y = clamp_to(y - 0.5f, 0.0f, static_cast<float>(rows - 1));
  const int left = static_cast<int>(x), top = static_cast<int>(y);
  const int right = left + 1 < columns ? left + 1 : left;
  const int bottom = top + 1 < rows ? top + 1 : top;
  const float across = x - static_cast<float>(left), down = y - static_cast<float>(top);
  const uint8_t* upper = plane + top * pitch_bytes;
  const uint8_t* lower = plane + bottom * pitch_bytes;
  const float a = upper[left * step], b = upper[right * step];
  const float c = lower[left * step], d = lower[right * step];
  const float mixed_upper = a + across * (b - a), mixed_lower = c + across * (d - c);
  return mixed_upper + down * (mixed_lower - mixed_upper);
}

LPNODE_HOST_DEVICE inline RgbPixel yuv_to_rgb_pixel(const YuvPlanes& planes,
                                                    const YuvToRgbParams& params, int column,
                                                    int row) {
  const float x = params.first_x + params.step_x * static_cast<float>(column);
  const float y = params.first_y + params.step_y * static_cast<float>(row);
  const int half_width = (planes.width + 1) / 2, half_height = (planes.height + 1) / 2;
  const YuvToRgbMatrix& m = params.matrix;
  const float luma = m.luma * (sample_plane(planes.y, planes.y_pitch_bytes, 1, planes.width,
                                            planes.height, x, y) -
                               m.luma_offset);
  const float u = sample_plane(planes.u, planes.u_pitch_bytes, planes.chroma_step, half_width,
                               half_height, 0.5f * x, 0.5f * y) -
                  128.0f;
  const float v = sample_plane(planes.v, planes.v_pitch_bytes, planes.chroma_step, half_width,
                               half_height, 0.5f * x, 0.5f * y) -
                  128.0f;
  const float red = clamp_to(luma + m.red_v * v, 0.0f, 255.0f);
  const float green = clamp_to(luma - m.green_u * u - m.green_v * v, 0.0f, 255.0f);
  const float blue = clamp_to(luma + m.blue_u * u, 0.0f, 255.0f);
  return {red * params.scale + params.offset, green * params.scale + params.offset,
          blue * params.scale + params.offset};
}

}  // namespace lpnode::kernels
