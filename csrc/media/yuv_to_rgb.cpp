#include "media/yuv_to_rgb.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "error.h"

namespace lpnode::media {
namespace {

constexpr int kOne = 32768;

void check_side(const char* name, int side) {
  if (side < 1 || side > kMaxSourceSide)
    throw InvalidArgument(std::string(name) + " must be 1.." + std::to_string(kMaxSourceSide) +
                          ", got " + std::to_string(side));
}

void check(const YuvToRgbSpec& spec) {
  check_side("source width", spec.source_width);
  check_side("source height", spec.source_height);
  check_side("width", spec.width);
  check_side("height", spec.height);
  const CropRect& crop = spec.crop;
  // A crop computed in floating point may pass the edge by rounding; sampling clamps anyway.
  constexpr double kSlack = 1e-6;
  const bool is_inside = crop.width > 0 && crop.height > 0 && crop.x >= -kSlack &&
                         crop.y >= -kSlack && crop.x + crop.width <= spec.source_width + kSlack &&
                         crop.y + crop.height <= spec.source_height + kSlack;
  if (!is_inside)
    throw InvalidArgument("crop must be a rectangle inside " + std::to_string(spec.source_width) +
                          "x" + std::to_string(spec.source_height) + ", got x=" +
                          std::to_string(crop.x) + " y=" + std::to_string(crop.y) + " width=" +
                          std::to_string(crop.width) + " height=" + std::to_string(crop.height));
  if (!(spec.black != spec.white) || !std::isfinite(spec.black) || !std::isfinite(spec.white))
    throw InvalidArgument("value range must be two different finite numbers");
}

struct Tap {
  int first;
  int16_t weight;
};

Tap tap_at(double position, int source_size) {
  const double inside = std::clamp(position, 0.0, static_cast<double>(source_size - 1));
  const int first = static_cast<int>(inside);
  const long weight = std::lround((inside - first) * kOne);
  return {first, static_cast<int16_t>(std::min<long>(weight, kOne - 1))};
}

int16_t q15(double value) {
  return static_cast<int16_t>(std::clamp<long>(std::lround(value * kOne), -kOne, kOne - 1));
}

// Position of output `i` in a register of 32 (or 16) words so that unpacking restores the order:
// each 128-bit lane has four outputs of the lower half, then four of the upper half.
int unpacked_output(int position, int outputs) {
  const int lane = position / 8, word = position % 8;
  return word < 4 ? 4 * lane + word : outputs / 2 + 4 * lane + word - 4;
}

std::vector<PermuteGroup> permute_groups(const std::vector<int32_t>& first,
                                         const std::vector<int16_t>& weight) {
  std::vector<PermuteGroup> groups(first.size() / kPermuteOutputs);
  for (size_t g = 0; g < groups.size(); ++g) {
    const size_t start = g * kPermuteOutputs;
    groups[g].base = first[start];
    for (int position = 0; position < kPermuteOutputs; ++position) {
      const size_t output = start + unpacked_output(position, kPermuteOutputs);
      groups[g].index[position] = static_cast<int16_t>(first[output] - first[start]);
      groups[g].weight[position] = weight[output];
    }
  }
  return groups;
}

std::vector<ShuffleGroup> shuffle_groups(const std::vector<int32_t>& first,
                                         const std::vector<int16_t>& weight) {
  std::vector<ShuffleGroup> groups(first.size() / kShuffleOutputs);
  for (size_t g = 0; g < groups.size(); ++g) {
    for (int four = 0; four < 4; ++four) {
      const size_t start = g * kShuffleOutputs + 4 * four;
      groups[g].base[four] = first[start];
      for (int i = 0; i < 4; ++i) {
        const int left = first[start + i] - first[start];
        const int at = (four % 2) * 4 + i;
        uint8_t* shuffle = groups[g].shuffle[four / 2] + 4 * at;
        for (int byte = 0; byte < 4; ++byte) shuffle[byte] = static_cast<uint8_t>(2 * left + byte);
        int16_t* weights = groups[g].weights[four / 2] + 2 * at;
        weights[1] = static_cast<int16_t>((weight[start + i] + 1) / 2);
        weights[0] = static_cast<int16_t>(kOne / 2 - weights[1]);
      }
    }
  }
  return groups;
}

// The most columns any `outputs` neighbours reach over, counting the right one of each pair.
int widest_reach(const std::vector<int32_t>& first, int outputs) {
  int widest = 0;
  for (size_t start = 0; start < first.size(); start += outputs)
    widest = std::max(widest, first[start + outputs - 1] - first[start] + 2);
  return widest;
}

template <typename Out>
void convert_by(SimdPath path, const YuvToRgbTables& tables, const YuvView& source,
                Out* out) noexcept {
#ifdef LPNODE_X86
  if (path == SimdPath::kAvx512) return yuv_to_rgb_avx512(tables, source, out);
  if (path == SimdPath::kAvx2) return yuv_to_rgb_avx2(tables, source, out);
#endif
  static_cast<void>(path);
  yuv_to_rgb_portable(tables, source, out);
}

}  // namespace

YuvToRgb::YuvToRgb(const YuvToRgbSpec& spec, SimdPath path) : spec_(spec), path_(path) {
  check(spec);
  const double step_x = spec.crop.width / spec.width, step_y = spec.crop.height / spec.height;
  const double x = spec.crop.x + 0.5 * step_x, y = spec.crop.y + 0.5 * step_y;
  luma_columns_ = sample_columns(x - 0.5, step_x, spec.source_width);
  luma_rows_ = sample_rows(y - 0.5, step_y, spec.source_height);
  chroma_columns_ = sample_columns(x / 2 - 0.5, step_x / 2, (spec.source_width + 1) / 2);
  chroma_rows_ = sample_rows(y / 2 - 0.5, step_y / 2, (spec.source_height + 1) / 2);
  const bool is_avx512 = path_ == SimdPath::kAvx512;
  const int outputs = is_avx512 ? kPermuteOutputs : 4;
  const int window = is_avx512 ? 64 : 8;
  const int luma = widest_reach(luma_columns_.first, outputs);
  const int chroma = widest_reach(chroma_columns_.first, outputs);
  if (luma <= window && chroma <= window)
    reach_ = Reach::kNear;
  else if (chroma <= window && (luma <= 2 * window || !is_avx512))
    reach_ = Reach::kFar;
  else
    reach_ = Reach::kAnywhere;
}

YuvToRgb::Axis YuvToRgb::sample_columns(double origin, double step, int source_size) const {
  Axis axis;
  const int padded = (spec_.width + kPermuteOutputs - 1) / kPermuteOutputs * kPermuteOutputs;
  axis.first.reserve(padded);
  axis.weight.reserve(padded);
  for (int i = 0; i < padded; ++i) {
    const Tap tap = tap_at(origin + step * std::min(i, spec_.width - 1), source_size);
    axis.first.push_back(tap.first);
    axis.weight.push_back(tap.weight);
  }
  const int begin = axis.first.front();
  // The right column of the last pair may lie outside; the rows put a copy of the edge there.
  axis.span = {begin, std::min(axis.first.back() + 2, source_size) - begin};
  for (int32_t& column : axis.first) column -= begin;
  if (path_ == SimdPath::kAvx512) axis.permute = permute_groups(axis.first, axis.weight);
  if (path_ == SimdPath::kAvx2) axis.shuffle = shuffle_groups(axis.first, axis.weight);
  return axis;
}

std::vector<RowTap> YuvToRgb::sample_rows(double origin, double step, int source_size) const {
  std::vector<RowTap> rows;
  rows.reserve(spec_.height);
  for (int i = 0; i < spec_.height; ++i) {
    const Tap tap = tap_at(origin + step * i, source_size);
    rows.push_back({tap.first, std::min(tap.first + 1, source_size - 1), tap.weight});
  }
  return rows;
}

YuvToRgbTables YuvToRgb::tables() const noexcept {
  const YuvToRgbMatrix matrix = yuv_to_rgb_matrix(spec_.matrix, spec_.is_full_range);
  const auto columns = [](const Axis& axis) {
    return ColumnTables{axis.first.data(), axis.weight.data(), axis.permute.data(),
                        axis.shuffle.data(), axis.span};
  };
  YuvToRgbTables t{};
  t.luma_columns = columns(luma_columns_);
  t.chroma_columns = columns(chroma_columns_);
  t.luma_rows = luma_rows_.data();
  t.chroma_rows = chroma_rows_.data();
  t.colour = {q15(matrix.luma / 2), q15(matrix.red_v / 2), q15(matrix.green_u / 2),
              q15(matrix.green_v / 2), q15(matrix.blue_u / 2 - 1)};
  t.luma_offset = static_cast<int16_t>(matrix.luma_offset);
  t.scale = (spec_.white - spec_.black) / (255 * 64);
  t.offset = spec_.black;
  t.width = spec_.width;
  t.height = spec_.height;
  t.reach = reach_;
  return t;
}

void YuvToRgb::convert(const YuvView& source, float* out) const noexcept {
  convert_by(path_, tables(), source, out);
}

void YuvToRgb::convert(const YuvView& source, Half* out) const noexcept {
  convert_by(path_, tables(), source, out);
}

}  // namespace lpnode::media
