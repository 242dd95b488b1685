// A TensorRT engine, ready to run. Built without TensorRT, the constructor throws NotBuilt.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

struct CUstream_st;

namespace lpnode::diffusion {

[[nodiscard]] bool has_tensorrt() noexcept;

// Version of the library that is linked, such as "10.13.3"; empty in a build without TensorRT.
[[nodiscard]] std::string tensorrt_version();

enum class Element { kFloat32, kFloat16, kBfloat16, kFloat8, kInt8, kUint8, kInt32, kInt64, kBool };

[[nodiscard]] std::string_view element_name(Element element) noexcept;

using Shape = std::vector<int64_t>;

// An input or output. Dimensions of `shape` that vary are -1; an input's smallest and largest shape
// are those of the engine's profile, an output has neither.
struct TensorInfo {
  std::string name;
  bool is_input = false;
  Element element = Element::kFloat32;
  Shape shape;
  Shape smallest;
  Shape largest;
};

// Device memory for one tensor, contiguous, at a multiple of 256 bytes. Borrowed.
struct Binding {
  std::string_view name;
  void* address = nullptr;
  Element element = Element::kFloat32;
  std::span<const int64_t> shape;
};

// Owns a deserialised engine and one execution context with its device memory. Used from one thread
// at a time; the thread may change.
class TrtEngine {
 public:
  // plan: what TensorRT's builder serialised, on this kind of GPU and with this version. It is
  // code: never give one that somebody else may have written.
  // Throws InvalidArgument where it cannot be read, OutOfDeviceMemory, DeviceError.
  TrtEngine(std::span<const std::byte> plan, int device);
  ~TrtEngine();
  TrtEngine(TrtEngine&&) noexcept;
  TrtEngine& operator=(TrtEngine&&) noexcept;

  [[nodiscard]] const std::vector<TensorInfo>& tensors() const noexcept;

  // Gives every input and output its memory and the inputs their shapes. They stay until the next
  // call, and the memory must live as long. An output's shape must be what the inputs' make it.
  // Throws InvalidArgument, which names the tensor; nothing is bound then.
  void bind(std::span<const Binding> bindings);

  // Enqueues one inference on `stream`, which orders it; waits for nothing and allocates nothing.
  // From the third run of the same bindings on a stream that can be captured, this replays a graph;
  // a stream that is being captured records the inference instead.
  // Throws InvalidArgument before `bind`; DeviceError, with TensorRT's own text.
  void run(CUstream_st* stream);

  // Bytes of device memory that the context works in.
  [[nodiscard]] int64_t context_bytes() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lpnode::diffusion
