#include "media/rgb_to_yuv_rows.h"

namespace lpnode::media {
namespace {

RgbToYuvCoefficients coefficients(const RgbToYuvSpec& spec) {
  const RgbToYuvMatrix m = rgb_to_yuv_matrix(spec.matrix, spec.is_full_range);
  const float levels = 255.0f / (spec.white - spec.black);
  const float black = spec.black * levels;
  RgbToYuvCoefficients k{};
  k.low = spec.black < spec.white ? spec.black : spec.white;
  k.high = spec.black < spec.white ? spec.white : spec.black;
  k.y_r = m.y_r * levels;
  k.y_g = m.y_g * levels;
  k.y_b = m.y_b * levels;
  k.y_offset = m.luma_offset - (m.y_r + m.y_g + m.y_b) * black;
  k.u_r = m.u_r * levels / 4;
  k.u_g = m.u_g * levels / 4;
  k.u_b = m.u_b * levels / 4;
  k.u_offset = 128 - (m.u_r + m.u_g + m.u_b) * black;
  k.v_r = m.v_r * levels / 4;
  k.v_g = m.v_g * levels / 4;
  k.v_b = m.v_b * levels / 4;
  k.v_offset = 128 - (m.v_r + m.v_g + m.v_b) * black;
  return k;
}

template <typename In>
void convert_by(const RgbToYuvSpec& spec, SimdPath path, const In* rgb,
                const MutableYuvView& out) noexcept {
  const RgbToYuvCoefficients k = coefficients(spec);
#ifdef LPNODE_X86
  if (path == SimdPath::kAvx512) return rgb_to_yuv_avx512(spec, k, rgb, out);
  if (path == SimdPath::kAvx2) return rgb_to_yuv_avx2(spec, k, rgb, out);
#endif
  static_cast<void>(path);
  rgb_to_yuv_portable(spec, k, rgb, out);
}

}  // namespace

void rgb_to_yuv(const RgbToYuvSpec& spec, SimdPath path, const float* rgb,
                const MutableYuvView& out) noexcept {
  convert_by(spec, path, rgb, out);
}

void rgb_to_yuv(const RgbToYuvSpec& spec, SimdPath path, const Half* rgb,
                const MutableYuvView& out) noexcept {
  convert_by(spec, path, rgb, out);
}

}  // namespace lpnode::media
