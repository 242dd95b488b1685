// What a stream was given once, as one launch.
#pragma once

#include <functional>
#include <memory>

struct CUstream_st;
struct CUgraphExec_st;

namespace lpnode::diffusion {

// Whether work sent to `stream` is being recorded and not run.
[[nodiscard]] bool is_capturing(CUstream_st* stream);

// Owns an executable graph. It reads and writes the addresses that were used while it was captured,
// which the caller keeps alive. Used from one thread at a time.
class CudaGraph {
 public:
  // Calls `enqueue`, which must give work to `stream` alone and wait for nothing, while that work
  // is recorded. Nothing runs. A `stream` that is the default one cannot be captured.
  // Throws DeviceError where the work cannot be captured; what `enqueue` throws passes through.
  CudaGraph(CUstream_st* stream, const std::function<void()>& enqueue);

  // Runs the work once more, after what `stream` has been given before.
  void replay(CUstream_st* stream) const;

 private:
  struct Destroy {
    void operator()(CUgraphExec_st* graph) const noexcept;
  };
  std::unique_ptr<CUgraphExec_st, Destroy> executable_;
};

}  // namespace lpnode::diffusion
