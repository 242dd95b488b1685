#include "field_lanes.h"
#include "ticket/field_ifma.h"

int main() {
  if (lpnode::runs(lpnode::SimdPath::kIfma))
    lpnode::test::FieldLanes<lpnode::ticket::FieldIfma>().run();
  return lpnode::test::finish();
}
