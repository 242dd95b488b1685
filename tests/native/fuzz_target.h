// The two ways to run a fuzz target: as a test over inputs of its own, or under libFuzzer.
#pragma once

#include <cstddef>
#include <cstdint>

#ifndef LPNODE_LIBFUZZER
#include <vector>

#include "plain_curve.h"
#endif

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

#ifndef LPNODE_LIBFUZZER
// Half of the inputs are mostly zeros and ones, where scalars are short or all but all ones.
inline void run_fuzz_target(int num_runs, size_t max_bytes) {
  lpnode::test::Numbers numbers(5);
  for (int run = 0; run < num_runs; ++run) {
    std::vector<uint8_t> input(numbers.word() % max_bytes);
    for (uint8_t& byte : input)
      byte = static_cast<uint8_t>(run % 2 ? numbers.word() : -(numbers.word() % 2));
    LLVMFuzzerTestOneInput(input.data(), input.size());
  }
}
#endif
