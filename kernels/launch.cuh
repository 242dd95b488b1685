// Grid shapes, checks and element types shared by the launchers.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>

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

// Two neighbours in one access; `at` is aligned to both together.
__device__ inline float2 load_pair(const float* at) {
  return __ldg(reinterpret_cast<const float2*>(at));
}
__device__ inline float2 load_pair(const __half* at) {
  return __half22float2(__ldg(reinterpret_cast<const __half2*>(at)));
}
__device__ inline float2 load_pair(const __nv_bfloat16* at) {
  return __bfloat1622float2(__ldg(reinterpret_cast<const __nv_bfloat162*>(at)));
}
__device__ inline void store_pair(float first, float second, float* at) {
  *reinterpret_cast<float2*>(at) = make_float2(first, second);
}
__device__ inline void store_pair(float first, float second, __half* at) {
  *reinterpret_cast<__half2*>(at) = __floats2half2_rn(first, second);
}
__device__ inline void store_pair(float first, float second, __nv_bfloat16* at) {
  *reinterpret_cast<__nv_bfloat162*>(at) = __floats2bfloat162_rn(first, second);
}

inline bool is_aligned(const void* at, size_t num_bytes) {
  return reinterpret_cast<uintptr_t>(at) % num_bytes == 0;
}

}  // namespace lpnode::kernels
