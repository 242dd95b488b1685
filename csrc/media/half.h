// A binary16 value as its bits; half_float.h converts.
#pragma once

#include <cstdint>

namespace lpnode::media {

struct Half {
  uint16_t bits;
};

}  // namespace lpnode::media
