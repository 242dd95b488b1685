// Copies of planes put together to as few as they can be.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "media/device_convert.h"

namespace lpnode::media {

// Between addresses that need not be of one allocation.
inline ptrdiff_t distance(const void* from, const void* to) noexcept {
  return static_cast<ptrdiff_t>(reinterpret_cast<uintptr_t>(to) - reinterpret_cast<uintptr_t>(from));
}

// A plane without gaps between its rows, or with the same gaps on both sides, as one row; the bytes
// of inner gaps are copied too, those behind the last row are not.
inline PlaneCopy as_one_row(PlaneCopy copy) noexcept {
  if (copy.to_pitch_bytes != copy.from_pitch_bytes) return copy;
  copy.row_bytes += static_cast<int>((copy.rows - 1) * copy.to_pitch_bytes);
  copy.rows = 1;
  return copy;
}

// Calls `act` with each copy that is left when planes are one row where they can be, and rows that
// lie at the same distance on both sides are one. The bytes of a gap between two planes are copied
// too where the gap is less than a row of the first, which is a codec's padding or our own.
template <typename Act>
void for_each_run(std::span<const PlaneCopy> copies, Act act) {
  PlaneCopy run{};
  ptrdiff_t reach = 0;  // from the run's start to where the next plane must begin, at most
  for (const PlaneCopy& given : copies) {
    const PlaneCopy next = as_one_row(given);
    const ptrdiff_t ahead = distance(run.from, next.from);
    const bool follows = run.rows == 1 && next.rows == 1 && ahead == distance(run.to, next.to) &&
                         ahead >= run.row_bytes && ahead <= reach;
    if (follows) {
      run.row_bytes = static_cast<int>(ahead) + next.row_bytes;
      reach = ahead + given.rows * given.from_pitch_bytes;
      continue;
    }
    if (run.rows > 0) act(run);
    run = next;
    reach = given.rows * given.from_pitch_bytes;
  }
  if (run.rows > 0) act(run);
}

}  // namespace lpnode::media
