#include "media/half_float.h"
#include "media/rgb_to_yuv_rows.h"

namespace lpnode::media {
namespace {

inline float load(const float* at) { return *at; }
inline float load(const Half* at) { return to_float(*at); }

struct PortableBlock {
  static constexpr int kColumns = 16;
  const RgbToYuvCoefficients& k;

  // The order of the comparisons sends NaN to the low end.
  float clamp(float value) const {
    value = value > k.low ? value : k.low;
    return value < k.high ? value : k.high;
  }

  // What is rounded lies within 0..255 up to a rounding error far below one half.
  static uint8_t round(float level) { return static_cast<uint8_t>(level + 0.5f); }

  template <typename In>
  void convert(const RowPair<In>& in, int x, const YuvRows& out) const {
    float red[kColumns], green[kColumns], blue[kColumns];
    for (int i = 0; i < kColumns; ++i) red[i] = green[i] = blue[i] = 0;
    for (int r = 0; r < 2; ++r) {
      for (int i = 0; i < kColumns; ++i) {
        const float r_in = clamp(load(in.red[r] + x + i));
        const float g_in = clamp(load(in.green[r] + x + i));
        const float b_in = clamp(load(in.blue[r] + x + i));
        out.y[r][x + i] = round(k.y_r * r_in + k.y_g * g_in + k.y_b * b_in + k.y_offset);
        red[i] += r_in;
        green[i] += g_in;
        blue[i] += b_in;
      }
    }
    for (int i = 0; i < kColumns / 2; ++i) {
      const float r_in = red[2 * i] + red[2 * i + 1];
      const float g_in = green[2 * i] + green[2 * i + 1];
      const float b_in = blue[2 * i] + blue[2 * i + 1];
      // Full-range chroma of a pure colour is 255.5: it is cut, not wrapped.
      const float u = k.u_r * r_in + k.u_g * g_in + k.u_b * b_in + k.u_offset;
      const float v = k.v_r * r_in + k.v_g * g_in + k.v_b * b_in + k.v_offset;
      out.u[x / 2 + i] = round(u < 255 ? u : 255);
      out.v[x / 2 + i] = round(v < 255 ? v : 255);
    }
  }
};

}  // namespace

void rgb_to_yuv_portable(const RgbToYuvSpec& spec, const RgbToYuvCoefficients& k, const float* rgb,
                         const MutableYuvView& out) noexcept {
  convert_row_pairs(PortableBlock{k}, spec, rgb, out);
}

void rgb_to_yuv_portable(const RgbToYuvSpec& spec, const RgbToYuvCoefficients& k, const Half* rgb,
                         const MutableYuvView& out) noexcept {
  convert_row_pairs(PortableBlock{k}, spec, rgb, out);
}

}  // namespace lpnode::media
