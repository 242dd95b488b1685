#include "diffusion/trt_engine.h"

namespace lpnode::diffusion {

std::string_view element_name(Element element) noexcept {
  switch (element) {
    case Element::kFloat32:
      return "float32";
    case Element::kFloat16:
      return "float16";
    case Element::kBfloat16:
      return "bfloat16";
    case Element::kFloat8:
      return "float8_e4m3fn";
    case Element::kInt8:
      return "int8";
    case Element::kUint8:
      return "uint8";
    case Element::kInt32:
      return "int32";
    case Element::kInt64:
      return "int64";
    case Element::kBool:
      return "bool";
  }
  return "unknown";
}

}  // namespace lpnode::diffusion
