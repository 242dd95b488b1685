#include "field_lanes.h"
#include "ticket/field_avx2.h"

int main() {
  if (lpnode::runs(lpnode::SimdPath::kAvx2))
    lpnode::test::FieldLanes<lpnode::ticket::FieldAvx2>().run();
  return lpnode::test::finish();
}
