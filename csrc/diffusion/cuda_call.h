// Turns codes of the CUDA runtime into the exceptions of csrc/error.h. For .cpp files only.
#pragma once

#include <cuda_runtime_api.h>

#include <string>

#include "error.h"

namespace lpnode::diffusion {

// Throws OutOfDeviceMemory or DeviceError with the call, the code and its text.
inline void check_cuda(cudaError_t code, const char* call) {
  if (code == cudaSuccess) return;
  static_cast<void>(cudaGetLastError());  // else the next call of anybody would report it again
  const std::string text = std::string(call) + ": " + cudaGetErrorName(code) + " (" +
                           std::to_string(static_cast<int>(code)) +
                           "): " + cudaGetErrorString(code);
  if (code == cudaErrorMemoryAllocation) throw OutOfDeviceMemory(text);
  throw DeviceError(text);
}

// Makes a device the current one of this thread for as long as it lives.
class CurrentDevice {
 public:
  explicit CurrentDevice(int device) {
    check_cuda(cudaGetDevice(&before_), "cudaGetDevice");
    check_cuda(cudaSetDevice(device), "cudaSetDevice");
  }
  ~CurrentDevice() { cudaSetDevice(before_); }
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;

 private:
  int before_ = 0;
};

}  // namespace lpnode::diffusion
