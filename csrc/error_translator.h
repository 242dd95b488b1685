// Raises lpnode.errors.<Name> for each type of csrc/error.h. Included by bindings.cpp only.
#pragma once

#include <nanobind/nanobind.h>

#include "error.h"

namespace lpnode {

template <typename E>
bool raise_as(const std::exception_ptr& thrown, const char* name) {
  try {
    std::rethrow_exception(thrown);
  } catch (const E& e) {
    nanobind::object type = nanobind::module_::import_("lpnode.errors").attr(name);
    PyErr_SetString(type.ptr(), e.what());
    return true;
  } catch (...) {
    return false;
  }
}

inline void register_error_translator() {
  nanobind::register_exception_translator([](const std::exception_ptr& thrown, void*) {
    if (raise_as<InvalidArgument>(thrown, "InvalidArgument") ||
        raise_as<ProtocolError>(thrown, "ProtocolError") ||
        raise_as<DecodeError>(thrown, "DecodeError") ||
        raise_as<EncodeError>(thrown, "EncodeError") ||
        raise_as<DeviceError>(thrown, "DeviceError") ||
        raise_as<OutOfDeviceMemory>(thrown, "OutOfDeviceMemory") ||
        raise_as<NotBuilt>(thrown, "NotBuilt")) {
      return;
    }
    std::rethrow_exception(thrown);
  });
}

}  // namespace lpnode
