// Marks arithmetic that is compiled for the device by nvcc and for the host by any C++ compiler, so
// that it can be tested without a GPU.
#pragma once

#ifdef __CUDACC__
#define LPNODE_HOST_DEVICE __host__ __device__
#else
#define LPNODE_HOST_DEVICE
#endif
