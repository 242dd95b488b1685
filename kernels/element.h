// What a tensor on the device is made of.
#pragma once

namespace lpnode::kernels {

enum class Element : int { kFloat32, kFloat16, kBfloat16 };

}  // namespace lpnode::kernels

struct CUstream_st;  // cudaStream_t is a pointer to it; callers need no CUDA header
