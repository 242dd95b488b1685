// The exceptions native code throws. bindings register one translator that raises the class of the
// same name from lpnode.errors (csrc/error_translator.h).
#pragma once

#include <stdexcept>

namespace lpnode {

struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};
struct InvalidArgument : Error {
  using Error::Error;
};
struct ProtocolError : Error {
  using Error::Error;
};
struct DecodeError : Error {
  using Error::Error;
};
struct EncodeError : Error {
  using Error::Error;
};
struct DeviceError : Error {
  using Error::Error;
};
struct OutOfDeviceMemory : Error {
  using Error::Error;
};
struct NotBuilt : Error {
  using Error::Error;
};

}  // namespace lpnode
