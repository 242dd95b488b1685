// The sums of the CUDA kernel, in its order, against double precision.
#include <cmath>
#include <random>
#include <vector>

#include "check.h"
#include "kernels/frame_similarity_sums.h"

using namespace lpnode::kernels;

namespace {

constexpr int kThreads = 256;

SimilaritySums pairwise(std::vector<SimilaritySums> parts) {
  add_pairwise(parts.data(), static_cast<int>(parts.size()), [](int half, auto act) {
    for (int i = 0; i < half; ++i) act(i);
  });
  return parts[0];
}

// What the two launches of frame_similarity do.
SimilaritySums as_on_the_device(const std::vector<float>& first, const std::vector<float>& second) {
  const auto count = static_cast<ptrdiff_t>(first.size());
  std::vector<SimilaritySums> blocks(kThreads, SimilaritySums{0, 0, 0});
  for (int block = 0; block < kSimilarityBlocks; ++block) {
    std::vector<SimilaritySums> parts(kThreads);
    for (int thread = 0; thread < kThreads; ++thread)
      parts[static_cast<size_t>(thread)] = similarity_part(
          block * kThreads + thread, kSimilarityBlocks * kThreads, count,
          [&](ptrdiff_t i) { return first[static_cast<size_t>(i)]; },
          [&](ptrdiff_t i) { return second[static_cast<size_t>(i)]; });
    blocks[static_cast<size_t>(block)] = pairwise(parts);
  }
  return pairwise(blocks);
}

void sums_are_those_of_double_precision() {
  std::mt19937 random(4);
  std::uniform_real_distribution<float> values(-1.0f, 1.0f);
  for (const int count : {1, 3, 255, 32768, 32769, 3 * 512 * 512, 3 * 333 * 77}) {
    std::vector<float> first, second;
    double product = 0, first_sq = 0, second_sq = 0;
    for (int i = 0; i < count; ++i) {
      first.push_back(values(random));
      second.push_back(0.9f * first.back() + 0.1f * values(random));
      product += static_cast<double>(first.back()) * second.back();
      first_sq += static_cast<double>(first.back()) * first.back();
      second_sq += static_cast<double>(second.back()) * second.back();
    }
    const SimilaritySums sums = as_on_the_device(first, second);
    CHECK(std::abs(sums.product - product) <= 1e-6 * first_sq);
    CHECK(std::abs(sums.first_sq - first_sq) <= 1e-6 * first_sq);
    CHECK(std::abs(sums.second_sq - second_sq) <= 1e-6 * second_sq);
  }
}

void equal_frames_have_equal_sums() {
  std::mt19937 random(5);
  std::uniform_real_distribution<float> values(-1.0f, 1.0f);
  std::vector<float> frame(3 * 100 * 101);
  for (float& value : frame) value = values(random);
  const SimilaritySums sums = as_on_the_device(frame, frame);
  CHECK(sums.product == sums.first_sq && sums.first_sq == sums.second_sq);
}

}  // namespace

int main() {
  sums_are_those_of_double_precision();
  equal_frames_have_equal_sums();
  return lpnode::test::finish();
}
