// What may be bound to an engine, and what it is told when it may not.
#include <cstdint>
#include <string>
#include <vector>

#include "check.h"
#include "diffusion/shape_check.h"
#include "error.h"

using namespace lpnode;
using namespace lpnode::diffusion;

namespace {

alignas(256) float memory[64];

std::vector<TensorInfo> tensors() {
  return {{"sample", true, Element::kFloat16, {-1, 4, 8, 8}, {1, 4, 8, 8}, {4, 4, 8, 8}},
          {"latent", false, Element::kFloat16, {-1, 4, 8, 8}, {}, {}}};
}

struct Bound {
  Shape sample{2, 4, 8, 8};
  Shape latent{2, 4, 8, 8};
  std::vector<Binding> bindings() const {
    return {{"latent", memory, Element::kFloat16, latent},
            {"sample", memory, Element::kFloat16, sample}};
  }
};

// The text of the refusal; empty where there is none.
std::string refusal(const std::vector<Binding>& bindings) {
  const std::vector<TensorInfo> known = tensors();
  try {
    static_cast<void>(check_bindings(known, bindings));
    return "";
  } catch (const InvalidArgument& error) {
    return error.what();
  }
}

std::string refusal(const Bound& bound) { return refusal(bound.bindings()); }

}  // namespace

int main() {
  const Bound good;
  const std::vector<TensorInfo> known = tensors();
  CHECK(check_bindings(known, good.bindings()) == (std::vector<size_t>{1, 0}));

  CHECK(refusal(Bound{{5, 4, 8, 8}}) ==
        "sample must be (1, 4, 8, 8) to (4, 4, 8, 8) float16, got (5, 4, 8, 8) float16");
  CHECK(refusal(Bound{{2, 4, 8}}) ==
        "sample must be (1, 4, 8, 8) to (4, 4, 8, 8) float16, got (2, 4, 8) float16");
  CHECK(refusal(Bound{{0, 4, 8, 8}}).starts_with("sample must be"));
  CHECK(refusal(Bound{{2, 4, 8, 8}, {0, 4, 8, 8}}).starts_with("latent must be"));
  CHECK(refusal(Bound{{2, 4, 8, 8}, {2, 3, 8, 8}}) ==
        "latent must be (-1, 4, 8, 8) float16, got (2, 3, 8, 8) float16");

  std::vector<Binding> bindings = good.bindings();
  bindings[1].element = Element::kFloat32;
  CHECK(refusal(bindings).ends_with("got (2, 4, 8, 8) float32"));
  bindings = good.bindings();
  bindings[0].address = nullptr;
  CHECK(refusal(bindings) == "latent must lie at a multiple of 256 bytes");
  bindings[0].address = memory + 1;
  CHECK(refusal(bindings) == "latent must lie at a multiple of 256 bytes");
  bindings = good.bindings();
  bindings.pop_back();
  CHECK(refusal(bindings) == "sample is not bound");
  bindings.push_back(bindings.front());
  CHECK(refusal(bindings) == "latent is bound twice");
  bindings[0].name = "image";
  CHECK(refusal(bindings) == "the engine has no tensor named image");
  CHECK(shape_text(Shape{7}) == "(7,)");
  return lpnode::test::finish();
}
