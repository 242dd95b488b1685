#include "diffusion/trt_engine.h"
#include "error.h"

namespace lpnode::diffusion {
namespace {

[[noreturn]] void refuse() {
  throw NotBuilt(
      "built without TensorRT; install its headers and libraries and configure with "
      "LPNODE_TENSORRT=ON (and TENSORRT_ROOT where they are in no usual place)");
}

}  // namespace

struct TrtEngine::Impl {};

bool has_tensorrt() noexcept { return false; }

std::string tensorrt_version() { return {}; }

TrtEngine::TrtEngine(std::span<const std::byte>, int) { refuse(); }
TrtEngine::~TrtEngine() = default;
TrtEngine::TrtEngine(TrtEngine&&) noexcept = default;
TrtEngine& TrtEngine::operator=(TrtEngine&&) noexcept = default;

const std::vector<TensorInfo>& TrtEngine::tensors() const noexcept {
  static const std::vector<TensorInfo> none;
  return none;
}

void TrtEngine::bind(std::span<const Binding>) { refuse(); }

void TrtEngine::run(CUstream_st*) { refuse(); }

int64_t TrtEngine::context_bytes() const noexcept { return 0; }

}  // namespace lpnode::diffusion
