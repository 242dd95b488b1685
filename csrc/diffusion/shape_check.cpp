#include "diffusion/shape_check.h"

#include <algorithm>
#include <cstdint>

#include "error.h"

namespace lpnode::diffusion {
namespace {

constexpr uintptr_t kAlignment = 256;  // what IExecutionContext::setTensorAddress asks for

bool is_within(const TensorInfo& tensor, std::span<const int64_t> shape) {
  if (shape.size() != tensor.shape.size()) return false;
  for (size_t i = 0; i < shape.size(); ++i) {
    const bool fits = tensor.shape[i] >= 0 ? shape[i] == tensor.shape[i]
                      : tensor.largest.empty()
                          ? shape[i] > 0
                          : shape[i] >= tensor.smallest[i] && shape[i] <= tensor.largest[i];
    if (!fits) return false;
  }
  return true;
}

std::string expected_text(const TensorInfo& tensor) {
  if (tensor.largest.empty() || tensor.smallest == tensor.largest)
    return shape_text(tensor.largest.empty() ? tensor.shape : tensor.largest);
  return shape_text(tensor.smallest) + " to " + shape_text(tensor.largest);
}

void check(const TensorInfo& tensor, const Binding& binding) {
  if (binding.element != tensor.element || !is_within(tensor, binding.shape))
    throw InvalidArgument(tensor.name + " must be " + expected_text(tensor) + " " +
                          std::string(element_name(tensor.element)) + ", got " +
                          shape_text(binding.shape) + " " +
                          std::string(element_name(binding.element)));
  if (binding.address == nullptr ||
      reinterpret_cast<uintptr_t>(binding.address) % kAlignment != 0)
    throw InvalidArgument(tensor.name + " must lie at a multiple of 256 bytes");
}

}  // namespace

std::string shape_text(std::span<const int64_t> shape) {
  std::string text = "(";
  for (size_t i = 0; i < shape.size(); ++i)
    text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + (shape.size() == 1 ? ",)" : ")");
}

std::vector<size_t> check_bindings(std::span<const TensorInfo> tensors,
                                   std::span<const Binding> bindings) {
  std::vector<size_t> positions;
  for (const Binding& binding : bindings) {
    const auto found = std::find_if(tensors.begin(), tensors.end(), [&](const TensorInfo& tensor) {
      return tensor.name == binding.name;
    });
    if (found == tensors.end())
      throw InvalidArgument("the engine has no tensor named " + std::string(binding.name));
    const auto position = static_cast<size_t>(found - tensors.begin());
    if (std::find(positions.begin(), positions.end(), position) != positions.end())
      throw InvalidArgument(found->name + " is bound twice");
    check(*found, binding);
    positions.push_back(position);
  }
  for (size_t i = 0; i < tensors.size(); ++i)
    if (std::find(positions.begin(), positions.end(), i) == positions.end())
      throw InvalidArgument(tensors[i].name + " is not bound");
  return positions;
}

}  // namespace lpnode::diffusion
