// Coefficients between Y'CbCr and R'G'B', both on the 8-bit scale (0..255). Source: ITU-T H.273,
// equations 38 to 43 with matrix coefficients 1 (BT.709) and 6 (BT.601).
#pragma once

namespace lpnode {

// Values are those of H.273.
enum class Matrix : int { kBt709 = 1, kBt601 = 6 };

// R = luma (Y - luma_offset) + red_v (V - 128)
// G = luma (Y - luma_offset) - green_u (U - 128) - green_v (V - 128)
// B = luma (Y - luma_offset) + blue_u (U - 128)
struct YuvToRgbMatrix {
  float luma_offset, luma;
  float red_v, green_u, green_v, blue_u;
};

// Y = luma_offset + y_r R + y_g G + y_b B;  U = 128 + u_r R + u_g G + u_b B;  V likewise.
struct RgbToYuvMatrix {
  float luma_offset;
  float y_r, y_g, y_b;
  float u_r, u_g, u_b;
  float v_r, v_g, v_b;
};

namespace detail {
struct Weights {
  double red, green, blue;
};
constexpr Weights luma_weights(Matrix matrix) {
  return matrix == Matrix::kBt601 ? Weights{0.299, 0.587, 0.114}
                                  : Weights{0.2126, 0.7152, 0.0722};
}
}  // namespace detail

constexpr YuvToRgbMatrix yuv_to_rgb_matrix(Matrix matrix, bool is_full_range) {
  const detail::Weights k = detail::luma_weights(matrix);
  const double luma = is_full_range ? 1.0 : 255.0 / 219.0;
  const double chroma = is_full_range ? 1.0 : 255.0 / 224.0;
  return {is_full_range ? 0.0f : 16.0f,
          static_cast<float>(luma),
          static_cast<float>(chroma * 2 * (1 - k.red)),
          static_cast<float>(chroma * 2 * k.blue * (1 - k.blue) / k.green),
          static_cast<float>(chroma * 2 * k.red * (1 - k.red) / k.green),
          static_cast<float>(chroma * 2 * (1 - k.blue))};
}

constexpr RgbToYuvMatrix rgb_to_yuv_matrix(Matrix matrix, bool is_full_range) {
  const detail::Weights k = detail::luma_weights(matrix);
  const double luma = is_full_range ? 1.0 : 219.0 / 255.0;
  const double chroma = is_full_range ? 1.0 : 224.0 / 255.0;
  const double u = chroma / (2 * (1 - k.blue));
  const double v = chroma / (2 * (1 - k.red));
  return {is_full_range ? 0.0f : 16.0f,
          static_cast<float>(luma * k.red),
          static_cast<float>(luma * k.green),
          static_cast<float>(luma * k.blue),
          static_cast<float>(-u * k.red),
          static_cast<float>(-u * k.green),
          static_cast<float>(u * (1 - k.blue)),
          static_cast<float>(v * (1 - k.red)),
          static_cast<float>(-v * k.green),
          static_cast<float>(-v * k.blue)};
}

}  // namespace lpnode
