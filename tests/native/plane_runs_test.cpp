// Copies of planes that belong together go as one, and copy what they would one by one.
#include "media/plane_runs.h"

#include <cstring>
#include <vector>

#include "check.h"

using namespace lpnode::media;

namespace {

struct Memory {
  std::vector<uint8_t> bytes = std::vector<uint8_t>(4096);
  uint8_t* at(int offset) { return bytes.data() + offset; }
};

// Does what the device would; returns the number of copies.
int copy_by_runs(const std::vector<PlaneCopy>& copies) {
  int count = 0;
  for_each_run(copies, [&](const PlaneCopy& run) {
    ++count;
    for (int row = 0; row < run.rows; ++row)
      std::memcpy(static_cast<uint8_t*>(run.to) + row * run.to_pitch_bytes,
                  static_cast<const uint8_t*>(run.from) + row * run.from_pitch_bytes,
                  static_cast<size_t>(run.row_bytes));
  });
  return count;
}

bool are_copied(const std::vector<PlaneCopy>& copies) {
  for (const PlaneCopy& copy : copies)
    for (int row = 0; row < copy.rows; ++row)
      if (std::memcmp(static_cast<uint8_t*>(copy.to) + row * copy.to_pitch_bytes,
                      static_cast<const uint8_t*>(copy.from) + row * copy.from_pitch_bytes,
                      static_cast<size_t>(copy.row_bytes)) != 0)
        return false;
  return true;
}

Memory noise() {
  Memory memory;
  for (size_t i = 0; i < memory.bytes.size(); ++i)
    memory.bytes[i] = static_cast<uint8_t>(1 + i * 131 % 255);
  return memory;
}

// 30 x 8 luma and 15 x 4 chroma at pitches of 32 and 16, one after the other on both sides.
void planes_of_one_block_are_one_copy() {
  Memory from = noise(), to;
  const std::vector<PlaneCopy> copies{{to.at(0), 32, from.at(0), 32, 30, 8},
                                      {to.at(256), 16, from.at(256), 16, 15, 4},
                                      {to.at(320), 16, from.at(320), 16, 15, 4}};
  CHECK(copy_by_runs(copies) == 1);
  CHECK(are_copied(copies));
  CHECK(to.bytes[320 + 3 * 16 + 15] == 0);  // behind the last row
}

void other_pitches_are_copied_by_rows() {
  Memory from = noise(), to;
  const std::vector<PlaneCopy> copies{{to.at(0), 40, from.at(0), 32, 30, 8},
                                      {to.at(320), 16, from.at(256), 16, 15, 4}};
  CHECK(copy_by_runs(copies) == 2);
  CHECK(are_copied(copies));
  CHECK(to.bytes[30] == 0);  // between rows
}

void planes_apart_stay_apart() {
  Memory from = noise(), to;
  const std::vector<PlaneCopy> gap_on_both_sides{{to.at(0), 32, from.at(0), 32, 30, 8},
                                                 {to.at(300), 16, from.at(300), 16, 15, 4}};
  CHECK(copy_by_runs(gap_on_both_sides) == 2);
  CHECK(are_copied(gap_on_both_sides));
  CHECK(to.bytes[280] == 0);
  const std::vector<PlaneCopy> wrong_order{{to.at(64), 16, from.at(64), 16, 16, 4},
                                           {to.at(0), 16, from.at(0), 16, 16, 4}};
  CHECK(copy_by_runs(wrong_order) == 2);
  CHECK(are_copied(wrong_order));
  const std::vector<PlaneCopy> gap_on_one_side{{to.at(512), 16, from.at(512), 16, 16, 4},
                                               {to.at(580), 16, from.at(576), 16, 16, 4}};
  CHECK(copy_by_runs(gap_on_one_side) == 2);
  CHECK(are_copied(gap_on_one_side));
}

void no_planes_are_no_copy() { CHECK(copy_by_runs({}) == 0); }

}  // namespace

int main() {
  planes_of_one_block_are_one_copy();
  other_pitches_are_copied_by_rows();
  planes_apart_stay_apart();
  no_planes_are_no_copy();
  return lpnode::test::finish();
}
