#include "diffusion/cuda_graph.h"

#include "diffusion/cuda_call.h"

namespace lpnode::diffusion {
namespace {

struct DestroyGraph {
  void operator()(CUgraph_st* graph) const noexcept { cudaGraphDestroy(graph); }
};
using GraphPtr = std::unique_ptr<CUgraph_st, DestroyGraph>;

GraphPtr end_capture(CUstream_st* stream) {
  cudaGraph_t graph = nullptr;
  const cudaError_t code = cudaStreamEndCapture(stream, &graph);
  GraphPtr owned(graph);
  check_cuda(code, "cudaStreamEndCapture");
  return owned;
}

GraphPtr captured(CUstream_st* stream, const std::function<void()>& enqueue) {
  // Thread-local: other threads may allocate, which would end a global capture.
  check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal),
             "cudaStreamBeginCapture");
  try {
    enqueue();
  } catch (...) {
    cudaGraph_t graph = nullptr;
    cudaStreamEndCapture(stream, &graph);
    static_cast<void>(cudaGetLastError());
    GraphPtr(graph).reset();
    throw;
  }
  return end_capture(stream);
}

}  // namespace

bool is_capturing(CUstream_st* stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check_cuda(cudaStreamIsCapturing(stream, &status), "cudaStreamIsCapturing");
  return status != cudaStreamCaptureStatusNone;
}

CudaGraph::CudaGraph(CUstream_st* stream, const std::function<void()>& enqueue) {
  const GraphPtr graph = captured(stream, enqueue);
  cudaGraphExec_t executable = nullptr;
  check_cuda(cudaGraphInstantiate(&executable, graph.get(), 0), "cudaGraphInstantiate");
  executable_.reset(executable);
}

void CudaGraph::replay(CUstream_st* stream) const {
  check_cuda(cudaGraphLaunch(executable_.get(), stream), "cudaGraphLaunch");
}

void CudaGraph::Destroy::operator()(CUgraphExec_st* graph) const noexcept {
  cudaGraphExecDestroy(graph);
}

}  // namespace lpnode::diffusion
