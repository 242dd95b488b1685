// Holds bindings against what an engine expects. Knows neither CUDA nor TensorRT.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "diffusion/trt_engine.h"

namespace lpnode::diffusion {

// As Python writes a tuple: "(1, 4, 64, 64)".
[[nodiscard]] std::string shape_text(std::span<const int64_t> shape);

// Each binding's position in `tensors`, in the order of `bindings`.
// Throws InvalidArgument: a tensor is missing, unknown or bound twice, an element type differs, an
// address is null or not a multiple of 256, or a shape is outside of what the engine takes.
[[nodiscard]] std::vector<size_t> check_bindings(std::span<const TensorInfo> tensors,
                                                 std::span<const Binding> bindings);

}  // namespace lpnode::diffusion
