#include "media/device_convert.h"

#include <cuda_runtime_api.h>

#include <string>

#include "error.h"
#include "kernels/frame_similarity.h"
#include "kernels/rgb_to_yuv.h"
#include "kernels/yuv_to_rgb.h"
#include "media/plane_runs.h"

namespace lpnode::media {
namespace {

void check(cudaError_t code, const char* call) {
  if (code == cudaSuccess) return;
  static_cast<void>(cudaGetLastError());  // or the next check would report this error again
  throw DeviceError(std::string(call) + ": " + cudaGetErrorName(code) + " (" +
                    std::to_string(static_cast<int>(code)) + "): " + cudaGetErrorString(code));
}

// Makes `device` the calling thread's, and gives the thread its own one back. The runtime linked in
// here is not PyTorch's; what they share is the driver's current context.
class DeviceScope {
 public:
  explicit DeviceScope(int device) {
    check(cudaGetDevice(&previous_), "cudaGetDevice");
    if (previous_ == device) return;
    check(cudaSetDevice(device), "cudaSetDevice");
    is_changed_ = true;
  }
  ~DeviceScope() {
    if (is_changed_) static_cast<void>(cudaSetDevice(previous_));
  }
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;

 private:
  int previous_ = 0;
  bool is_changed_ = false;
};

}  // namespace

bool has_device_convert() noexcept { return true; }

void require_device_convert() {}

void yuv_to_rgb_on_device(const kernels::YuvPlanes& planes, const kernels::YuvToRgbParams& params,
                          void* out, kernels::Element element, int device, CUstream_st* stream) {
  const DeviceScope scope(device);
  kernels::yuv_to_rgb(planes, params, out, element, stream);
}

void rgb_to_yuv_on_device(const void* rgb, kernels::Element element,
                          const kernels::RgbToYuvParams& params,
                          const kernels::MutableYuvPlanes& out, int device, CUstream_st* stream) {
  const DeviceScope scope(device);
  kernels::rgb_to_yuv(rgb, element, params, out, stream);
}

void frame_similarity_on_device(const void* first, const void* second, kernels::Element element,
                                ptrdiff_t count, kernels::SimilaritySums* scratch,
                                kernels::SimilaritySums* sums, int device, CUstream_st* stream) {
  const DeviceScope scope(device);
  kernels::frame_similarity(first, second, element, count, scratch, sums, stream);
}

void copy_planes_on_device(std::span<const PlaneCopy> copies, int device, CUstream_st* stream) {
  const DeviceScope scope(device);
  for_each_run(copies, [&](const PlaneCopy& run) {
    // Which side is on the device follows from the addresses.
    if (run.rows == 1)
      check(cudaMemcpyAsync(run.to, run.from, static_cast<size_t>(run.row_bytes), cudaMemcpyDefault,
                            stream),
            "cudaMemcpyAsync");
    else
      check(cudaMemcpy2DAsync(run.to, static_cast<size_t>(run.to_pitch_bytes), run.from,
                              static_cast<size_t>(run.from_pitch_bytes),
                              static_cast<size_t>(run.row_bytes), static_cast<size_t>(run.rows),
                              cudaMemcpyDefault, stream),
            "cudaMemcpy2DAsync");
  });
}

}  // namespace lpnode::media
