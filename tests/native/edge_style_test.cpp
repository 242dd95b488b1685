#include "effect/edge_style.h"

#include <cmath>
#include <memory>
#include <random>

#include "check.h"
#include "effect/edge_style_paths.h"
#include "error.h"

using namespace lpnode;
using namespace lpnode::effect;

namespace {

constexpr EdgeStyle kStyle{0.8f, 0.1f, 0.3f, 4, {1, 0.9f, 0.8f}, {0, 0, 0.2f}};

void all_paths_agree_and_keep_to_their_frames() {
  std::mt19937 random(3);
  for (const int width : {1, 2, 7, 8, 9, 33, 257})
    for (const int height : {1, 2, 3, 6}) {
      const size_t size = 3 * static_cast<size_t>(width) * height;
      const auto frame = std::make_unique<float[]>(size);
      // Away from the middle between two levels, where rounding may go either way.
      for (size_t i = 0; i < size; ++i)
        frame[i] = (static_cast<float>(random() % 4) + static_cast<float>(random() % 40) / 100) / 3;
      const auto plain = std::make_unique<float[]>(size), best = std::make_unique<float[]>(size);
      edge_style_portable(kStyle, width, height, frame.get(), plain.get());
      edge_style(kStyle, width, height, frame.get(), best.get());
      bool are_equal = true;
      for (size_t i = 0; i < size; ++i)
        are_equal = are_equal && std::abs(plain[i] - best[i]) < 2e-6f;
      CHECK(are_equal);
    }
}

void the_widest_frame_fits() {
  const auto frame = std::make_unique<float[]>(3 * kMaxWidth);
  const auto out = std::make_unique<float[]>(3 * kMaxWidth);
  edge_style(kStyle, kMaxWidth, 1, frame.get(), out.get());
  CHECK(out[0] == 0);
  CHECK_THROWS(edge_style(kStyle, kMaxWidth + 1, 1, frame.get(), out.get()), InvalidArgument);
}

void a_style_out_of_range_is_refused() {
  float frame[3] = {}, out[3];
  EdgeStyle style = kStyle;
  style.levels = 1;
  CHECK_THROWS(edge_style(style, 1, 1, frame, out), InvalidArgument);
  style = kStyle;
  style.strength = std::nanf("");
  CHECK_THROWS(edge_style(style, 1, 1, frame, out), InvalidArgument);
}

}  // namespace

int main() {
  all_paths_agree_and_keep_to_their_frames();
  the_widest_frame_fits();
  a_style_out_of_range_is_refused();
  return test::finish();
}
