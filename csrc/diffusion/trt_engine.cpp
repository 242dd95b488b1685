#include "diffusion/trt_engine.h"

#include <NvInferRuntime.h>

#include <algorithm>
#include <mutex>
#include <optional>
#include <utility>

#include "diffusion/cuda_call.h"
#include "diffusion/cuda_graph.h"
#include "diffusion/shape_check.h"

namespace lpnode::diffusion {
namespace {

// The first runs of a binding are TensorRT's to set itself up in; only later ones are captured.
constexpr int kRunsBeforeCapture = 2;

// Keeps the latest error, which TensorRT tells a logger and nobody else.
class LastError final : public nvinfer1::ILogger {
 public:
  void log(Severity severity, nvinfer1::AsciiChar const* message) noexcept override {
    if (severity > Severity::kERROR) return;
    try {
      const std::lock_guard lock(mutex_);
      text_ = message;
    } catch (...) {  // out of memory: the text is lost, the failure is still reported
    }
  }

  std::string take() {
    const std::lock_guard lock(mutex_);
    return text_.empty() ? "no reason given" : std::exchange(text_, {});
  }

 private:
  std::mutex mutex_;
  std::string text_;
};

Element element_of(const char* name, nvinfer1::DataType type) {
  switch (type) {
    case nvinfer1::DataType::kFLOAT:
      return Element::kFloat32;
    case nvinfer1::DataType::kHALF:
      return Element::kFloat16;
    case nvinfer1::DataType::kBF16:
      return Element::kBfloat16;
    case nvinfer1::DataType::kFP8:
      return Element::kFloat8;
    case nvinfer1::DataType::kINT8:
      return Element::kInt8;
    case nvinfer1::DataType::kUINT8:
      return Element::kUint8;
    case nvinfer1::DataType::kINT32:
      return Element::kInt32;
    case nvinfer1::DataType::kINT64:
      return Element::kInt64;
    case nvinfer1::DataType::kBOOL:
      return Element::kBool;
    default:
      throw InvalidArgument(std::string("tensor ") + name + " has an element type that no tensor " +
                            "of ours has: " + std::to_string(static_cast<int>(type)));
  }
}

Shape shape_of(const nvinfer1::Dims& dims) {
  return {dims.d, dims.d + (dims.nbDims > 0 ? dims.nbDims : 0)};
}

nvinfer1::Dims dims_of(std::span<const int64_t> shape) {
  nvinfer1::Dims dims{};
  dims.nbDims = static_cast<int32_t>(shape.size());
  for (size_t i = 0; i < shape.size(); ++i) dims.d[i] = shape[i];
  return dims;
}

std::vector<TensorInfo> described(const nvinfer1::ICudaEngine& engine) {
  std::vector<TensorInfo> tensors;
  for (int32_t i = 0; i < engine.getNbIOTensors(); ++i) {
    const char* name = engine.getIOTensorName(i);
    TensorInfo tensor;
    tensor.name = name;
    tensor.is_input = engine.getTensorIOMode(name) == nvinfer1::TensorIOMode::kINPUT;
    tensor.element = element_of(name, engine.getTensorDataType(name));
    tensor.shape = shape_of(engine.getTensorShape(name));
    if (tensor.is_input) {
      const auto profile = [&](nvinfer1::OptProfileSelector which) {
        return shape_of(engine.getProfileShape(name, 0, which));
      };
      tensor.smallest = profile(nvinfer1::OptProfileSelector::kMIN);
      tensor.largest = profile(nvinfer1::OptProfileSelector::kMAX);
    }
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

}  // namespace

struct TrtEngine::Impl {
  int device = 0;
  // In the order in which they are made; each must outlive those below it.
  LastError last_error;
  std::unique_ptr<nvinfer1::IRuntime> runtime;
  std::unique_ptr<nvinfer1::ICudaEngine> engine;
  std::unique_ptr<nvinfer1::IExecutionContext> context;
  std::vector<TensorInfo> tensors;
  bool is_bound = false;
  int num_runs = 0;
  std::optional<CudaGraph> graph;

  bool has_shape(const TensorInfo& tensor, std::span<const int64_t> shape) const {
    const Shape now = shape_of(context->getTensorShape(tensor.name.c_str()));
    return std::equal(now.begin(), now.end(), shape.begin(), shape.end());
  }

  void enqueue(CUstream_st* stream) {
    if (!context->enqueueV3(stream)) throw DeviceError("enqueueV3: " + last_error.take());
  }
};

bool has_tensorrt() noexcept { return true; }

std::string tensorrt_version() {
  // Coded as major * 10000 + minor * 100 + patch since version 10.
  const int32_t version = getInferLibVersion();
  return std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
         std::to_string(version % 100);
}

TrtEngine::TrtEngine(std::span<const std::byte> plan, int device)
    : impl_(std::make_unique<Impl>()) {
  const CurrentDevice current(device);
  impl_->device = device;
  impl_->runtime.reset(nvinfer1::createInferRuntime(impl_->last_error));
  if (!impl_->runtime) throw DeviceError("createInferRuntime: " + impl_->last_error.take());
  impl_->engine.reset(impl_->runtime->deserializeCudaEngine(plan.data(), plan.size()));
  if (!impl_->engine)
    throw InvalidArgument("not an engine of TensorRT " + tensorrt_version() +
                          " for this GPU: " + impl_->last_error.take());
  impl_->tensors = described(*impl_->engine);
  impl_->context.reset(impl_->engine->createExecutionContext());
  if (!impl_->context)
    throw OutOfDeviceMemory("createExecutionContext: " + impl_->last_error.take());
}

TrtEngine::~TrtEngine() = default;
TrtEngine::TrtEngine(TrtEngine&&) noexcept = default;
TrtEngine& TrtEngine::operator=(TrtEngine&&) noexcept = default;

const std::vector<TensorInfo>& TrtEngine::tensors() const noexcept { return impl_->tensors; }

void TrtEngine::bind(std::span<const Binding> bindings) {
  Impl& impl = *impl_;
  impl.is_bound = false;
  const std::vector<size_t> positions = check_bindings(impl.tensors, bindings);
  impl.graph.reset();
  impl.num_runs = 0;
  const CurrentDevice current(impl.device);
  for (size_t i = 0; i < bindings.size(); ++i) {
    const TensorInfo& tensor = impl.tensors[positions[i]];
    // A shape that is set again makes TensorRT plan again, also when it is the same.
    const bool is_new = tensor.is_input && !impl.has_shape(tensor, bindings[i].shape);
    const bool is_set = !is_new || impl.context->setInputShape(tensor.name.c_str(),
                                                               dims_of(bindings[i].shape));
    if (!is_set || !impl.context->setTensorAddress(tensor.name.c_str(), bindings[i].address))
      throw DeviceError("cannot bind " + tensor.name + ": " + impl.last_error.take());
  }
  for (size_t i = 0; i < bindings.size(); ++i) {
    const TensorInfo& tensor = impl.tensors[positions[i]];
    const Shape shape = shape_of(impl.context->getTensorShape(tensor.name.c_str()));
    const std::span<const int64_t> given = bindings[i].shape;
    if (!std::equal(shape.begin(), shape.end(), given.begin(), given.end()))
      throw InvalidArgument(tensor.name + " must be " + shape_text(shape) +
                            " for these inputs, got " + shape_text(given));
  }
  impl.is_bound = true;
}

void TrtEngine::run(CUstream_st* stream) {
  Impl& impl = *impl_;
  if (!impl.is_bound) throw InvalidArgument("an engine runs after its tensors were bound");
  const CurrentDevice current(impl.device);
  // The default stream cannot be captured, and one that is being captured records what it is given.
  if (stream == nullptr || is_capturing(stream)) {
    impl.enqueue(stream);
    return;
  }
  if (!impl.graph && impl.num_runs < kRunsBeforeCapture) {
    impl.enqueue(stream);
    ++impl.num_runs;
    return;
  }
  if (!impl.graph) impl.graph.emplace(stream, [&] { impl.enqueue(stream); });
  impl.graph->replay(stream);
}

int64_t TrtEngine::context_bytes() const noexcept { return impl_->engine->getDeviceMemorySizeV2(); }

}  // namespace lpnode::diffusion
