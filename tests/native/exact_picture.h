// Pictures whose planes end with their last pixel, so that a sanitizer sees every byte too far.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "media/frame_paths.h"

namespace lpnode::test {

// Rows of `row_bytes` at a distance of `pitch_bytes`; the last row has no padding behind it.
class ExactPlane {
 public:
  ExactPlane(int row_bytes, int rows, int pitch_bytes)
      : size_(static_cast<size_t>(pitch_bytes) * (rows - 1) + row_bytes),
        bytes_(std::make_unique<uint8_t[]>(size_)) {}

  void fill_with_noise(std::mt19937& random) {
    for (size_t i = 0; i < size_; ++i) bytes_[i] = static_cast<uint8_t>(random());
  }
  [[nodiscard]] uint8_t* data() noexcept { return bytes_.get(); }
  [[nodiscard]] size_t size() const noexcept { return size_; }

 private:
  size_t size_;
  std::unique_ptr<uint8_t[]> bytes_;
};

inline std::vector<SimdPath> paths_of_this_machine() {
  std::vector<SimdPath> paths;
  for (const SimdPath path : media::kFramePaths)
    if (runs(path)) paths.push_back(path);
  return paths;
}

}  // namespace lpnode::test
