#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <string>
#include <vector>

#include "byte_view.h"
#include "diffusion/trt_engine.h"
#include "error_translator.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace lpnode::diffusion {
namespace {

using DeviceTensor = nb::ndarray<nb::c_contig>;

Element element_of(const std::string& name, nb::dlpack::dtype type) {
  const auto code = static_cast<nb::dlpack::dtype_code>(type.code);
  if (code == nb::dlpack::dtype_code::Float && type.bits == 32) return Element::kFloat32;
  if (code == nb::dlpack::dtype_code::Float && type.bits == 16) return Element::kFloat16;
  if (code == nb::dlpack::dtype_code::Bfloat && type.bits == 16) return Element::kBfloat16;
  if (code == nb::dlpack::dtype_code::Int && type.bits == 8) return Element::kInt8;
  if (code == nb::dlpack::dtype_code::UInt && type.bits == 8) return Element::kUint8;
  if (code == nb::dlpack::dtype_code::Int && type.bits == 32) return Element::kInt32;
  if (code == nb::dlpack::dtype_code::Int && type.bits == 64) return Element::kInt64;
  if (code == nb::dlpack::dtype_code::Bool && type.bits == 8) return Element::kBool;
  throw InvalidArgument(name + " has an element type that no engine takes");
}

// Borrows what Python holds: names, addresses, shapes.
struct Bindings {
  std::vector<std::string> names;
  std::vector<Shape> shapes;
  std::vector<Binding> bindings;

  explicit Bindings(const nb::dict& tensors) {
    names.reserve(tensors.size());
    shapes.reserve(tensors.size());
    for (const auto& [key, value] : tensors) {
      const auto& name = names.emplace_back(nb::cast<std::string>(key));
      const auto tensor = nb::cast<DeviceTensor>(value, false);
      if (tensor.device_type() != nb::device::cuda::value)
        throw InvalidArgument(name + " must be on a CUDA device");
      auto& shape = shapes.emplace_back();
      for (size_t i = 0; i < tensor.ndim(); ++i)
        shape.push_back(static_cast<int64_t>(tensor.shape(i)));
      bindings.push_back({name, tensor.data(), element_of(name, tensor.dtype()), shape});
    }
  }
};

}  // namespace
}  // namespace lpnode::diffusion

NB_MODULE(diffusion, m) {
  using namespace lpnode;
  using namespace lpnode::diffusion;
  register_error_translator();

  m.def("has_tensorrt", &has_tensorrt, "Whether this build runs TensorRT engines.");
  m.def("tensorrt_version", &tensorrt_version,
        "Version of the TensorRT library in use; empty in a build without it.");

  nb::class_<TensorInfo>(m, "TensorInfo", "An input or output of an engine.")
      .def_ro("name", &TensorInfo::name)
      .def_ro("is_input", &TensorInfo::is_input)
      .def_prop_ro(
          "dtype", [](const TensorInfo& self) { return std::string(element_name(self.element)); },
          "As torch names it, such as float16.")
      .def_ro("shape", &TensorInfo::shape, "Dimensions that vary are -1.")
      .def_ro("smallest", &TensorInfo::smallest, "Of an input; empty for an output.")
      .def_ro("largest", &TensorInfo::largest, "Of an input; empty for an output.");

  nb::class_<TrtEngine>(m, "TrtEngine",
                        "A TensorRT engine with its execution context. For one thread at a time.")
      .def(
          "__init__",
          [](TrtEngine* self, const nb::object& plan, int device) {
            const ByteView bytes(plan);
            const auto view = std::as_bytes(bytes.bytes());
            nb::gil_scoped_release unlocked;
            new (self) TrtEngine(view, device);
          },
          "plan"_a, "device"_a,
          nb::sig("def __init__(self, plan: typing_extensions.Buffer, device: int) -> None"),
          "Reads what TensorRT's builder wrote; `device` is the index of the GPU.")
      .def_prop_ro("tensors", &TrtEngine::tensors, "Inputs and outputs.")
      .def_prop_ro("context_bytes", &TrtEngine::context_bytes,
                   "Device memory that inference works in.")
      .def(
          "bind",
          [](TrtEngine& self, const nb::dict& tensors) {
            const Bindings bindings(tensors);
            self.bind(bindings.bindings);
          },
          "tensors"_a, nb::sig("def bind(self, tensors: dict[str, typing.Any]) -> None"),
          "Gives every input and output its tensor, contiguous on the engine's device, which the "
          "caller keeps alive until the next bind.")
      .def(
          "run",
          [](TrtEngine& self, uintptr_t stream) {
            nb::gil_scoped_release unlocked;
            self.run(reinterpret_cast<CUstream_st*>(stream));
          },
          "stream"_a, "Enqueues one inference on a CUDA stream, given by its handle.");
}
