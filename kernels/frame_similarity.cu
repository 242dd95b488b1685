#include "kernels/frame_similarity.h"
#include "kernels/launch.cuh"

namespace lpnode::kernels {
namespace {

constexpr int kThreads = 256;

// Adds what the threads of one block hold, and has thread 0 write the sum.
__device__ inline void write_block_sum(const SimilaritySums& own, SimilaritySums* out) {
  __shared__ SimilaritySums parts[kThreads];
  parts[threadIdx.x] = own;
  __syncthreads();
  add_pairwise(parts, kThreads, [](int half, auto act) {
    if (static_cast<int>(threadIdx.x) < half) act(static_cast<int>(threadIdx.x));
    __syncthreads();
  });
  if (threadIdx.x == 0) *out = parts[0];
}

// Each thread takes neighbours of its warp's, a grid apart.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    block_sums_kernel(const T* __restrict__ first, const T* __restrict__ second, ptrdiff_t count,
                      SimilaritySums* __restrict__ blocks) {
  const ptrdiff_t begin = ptrdiff_t{blockIdx.x} * kThreads + threadIdx.x;
  const SimilaritySums own = similarity_part(
      begin, ptrdiff_t{gridDim.x} * kThreads, count,
      [first](ptrdiff_t i) { return load_element(first + i); },
      [second](ptrdiff_t i) { return load_element(second + i); });
  write_block_sum(own, blocks + blockIdx.x);
}

__global__ void __launch_bounds__(kThreads)
    total_kernel(const SimilaritySums* blocks, SimilaritySums* sums) {
  const int i = static_cast<int>(threadIdx.x);
  const SimilaritySums own =
      i < kSimilarityBlocks ? blocks[i] : SimilaritySums{0.0f, 0.0f, 0.0f};
  write_block_sum(own, sums);
}

static_assert(kSimilarityBlocks <= kThreads && (kThreads & (kThreads - 1)) == 0);

}  // namespace

void frame_similarity(const void* first, const void* second, Element element, ptrdiff_t count,
                      SimilaritySums* scratch, SimilaritySums* sums, CUstream_st* stream) {
  with_element(element, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    block_sums_kernel<T><<<kSimilarityBlocks, kThreads, 0, stream>>>(
        static_cast<const T*>(first), static_cast<const T*>(second), count, scratch);
  });
  check_launch("frame_similarity");
  total_kernel<<<1, kThreads, 0, stream>>>(scratch, sums);
  check_launch("frame_similarity");
}

}  // namespace lpnode::kernels
