// Grid shapes, checks and element types shared by the launchers.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <string>

#include "error.h"
#include "kernels/element.h"

namespace lpnode::kernels {

// 32 x 8 threads: a warp writes 32 neighbours of one row.
inline constexpr unsigned kBlockColumns = 32;
inline constexpr unsigned kBlockRows = 8;

constexpr unsigned ceil_div(int count, unsigned size) {
  return (static_cast<unsigned>(count) + size - 1) / size;
}

// Call right after a launch: throws DeviceError with the kernel's name, the code and its text.
inline void check_launch(const char* kernel) {
  const cudaError_t code = cudaGetLastError();
  if (code == cudaSuccess) return;
  throw DeviceError(std::string(kernel) + ": " + cudaGetErrorName(code) + " (" +
                    std::to_string(static_cast<int>(code)) + "): " + cudaGetErrorString(code));
}

// Calls act with a null pointer of the element's type.
template <typename Act>
void with_element(Element element, Act act) {
  switch (element) {
    case Element::kFloat32:
      return act(static_cast<float*>(nullptr));
    case Element::kFloat16:
      return act(static_cast<__half*>(nullptr));
    case Element::kBfloat16:
      return act(static_cast<__nv_bfloat16*>(nullptr));
  }
}

__device__ inline float load_element(const float* at) { return __ldg(at); }
__device__ inline float load_element(const __half* at) { return __half2float(__ldg(at)); }
__device__ inline float load_element(const __nv_bfloat16* at) {
  return __bfloat162float(__ldg(at));
}
__device__ inline void store_element(float value, float* at) { *at = value; }
__device__ inline void store_element(float value, __half* at) { *at = __float2half_rn(value); }
__device__ inline void store_element(float value, __nv_bfloat16* at) {
  *at = __float2bfloat16_rn(value);
}

}  // namespace lpnode::kernels
