// A Python object's bytes, borrowed through the buffer protocol. Included by bindings.cpp only.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <span>

namespace lpnode {

// Holds the buffer from construction to destruction, both with the GIL held. The bytes may be read
// (or written, when asked for) without it in between. Throws TypeError or BufferError as Python does
// when the object has no contiguous (writable) buffer.
class ByteView {
 public:
  explicit ByteView(nanobind::handle object, bool is_writable = false) {
    if (PyObject_GetBuffer(object.ptr(), &buffer_, is_writable ? PyBUF_WRITABLE : PyBUF_SIMPLE))
      throw nanobind::python_error();
  }
  ~ByteView() { PyBuffer_Release(&buffer_); }
  ByteView(const ByteView&) = delete;
  ByteView& operator=(const ByteView&) = delete;

  [[nodiscard]] std::span<const uint8_t> bytes() const noexcept {
    return {static_cast<const uint8_t*>(buffer_.buf), static_cast<size_t>(buffer_.len)};
  }
  [[nodiscard]] std::span<uint8_t> writable_bytes() noexcept {
    return {static_cast<uint8_t*>(buffer_.buf), static_cast<size_t>(buffer_.len)};
  }

 private:
  Py_buffer buffer_{};
};

}  // namespace lpnode
