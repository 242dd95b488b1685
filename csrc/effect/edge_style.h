// A drawing made of a picture: flat areas of few colours, with ink lines along the edges.
#pragma once

#include <cstddef>

namespace lpnode::effect {

inline constexpr int kMaxWidth = 4096;

struct Rgb {
  float red, green, blue;
};

// Values are RGB from 0 (black) to 1 (white).
struct EdgeStyle {
  float strength;   // 0 leaves the picture as it is, 1 gives the drawing alone
  float threshold;  // gradient where lines begin; a step from black to white has 1
  float softness;   // above 0: the gradient over which a line becomes solid
  int levels;       // 2 or more values that each colour may take in flat areas
  Rgb tint;         // multiplies flat areas
  Rgb ink;          // colour of lines
};

// frame, out: 3 planes (R, G, B) of height rows of width values, contiguous, not overlapping.
// Lines follow the Sobel gradient of BT.601 luma; the picture's edge pixels are repeated outwards.
// Takes values outside 0..1 as the nearest inside. One pass, three rows of luma on the stack.
// Throws InvalidArgument for a width out of 1..kMaxWidth, a height under 1, or a style out of range.
void edge_style(const EdgeStyle& style, int width, int height, const float* frame, float* out);

// Names the instruction set that edge_style uses here: "avx2" or "portable".
[[nodiscard]] const char* edge_style_path() noexcept;

}  // namespace lpnode::effect
