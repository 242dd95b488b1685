// Python arrays and buffers as pictures and tensors of a device. Included by bindings.cpp only.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "byte_view.h"
#include "error.h"
#include "media/device_convert.h"

namespace lpnode::media {

namespace nb = nanobind;

// The length and pitch of a plane in host memory hold its rows. Throws InvalidArgument.
inline void check_plane(const char* name, size_t length, ptrdiff_t pitch, int row_bytes, int rows) {
  const bool holds = pitch >= row_bytes &&
                     length >= static_cast<size_t>(pitch) * (rows - 1) + row_bytes;
  if (!holds)
    throw InvalidArgument(std::string("plane ") + name + " must hold " + std::to_string(rows) +
                          " rows of " + std::to_string(row_bytes) + " bytes, got " +
                          std::to_string(length) + " bytes at a pitch of " + std::to_string(pitch));
}

using DevicePlane = nb::ndarray<uint8_t, nb::ndim<2>>;
using DevicePlanes = nb::ndarray<nb::ndim<3>, nb::c_contig>;

inline kernels::Element element_of(const DevicePlanes& array) {
  const auto kind = static_cast<nb::dlpack::dtype_code>(array.dtype().code);
  const int bits = array.dtype().bits;
  if (kind == nb::dlpack::dtype_code::Float && bits == 32) return kernels::Element::kFloat32;
  if (kind == nb::dlpack::dtype_code::Float && bits == 16) return kernels::Element::kFloat16;
  if (kind == nb::dlpack::dtype_code::Bfloat && bits == 16) return kernels::Element::kBfloat16;
  throw InvalidArgument("tensor must be float32, float16 or bfloat16");
}

// The three planes of I420 or the two of NV12, in device memory; keeps them alive.
class DevicePicture {
 public:
  DevicePicture(int width, int height, DevicePlane y, DevicePlane u, std::optional<DevicePlane> v)
      : y_(std::move(y)), u_(std::move(u)), v_(std::move(v)) {
    if (width < 1 || height < 1) throw InvalidArgument("a picture must have pixels");
    const int half_width = (width + 1) / 2, half_height = (height + 1) / 2;
    planes_.width = width;
    planes_.height = height;
    planes_.y = pixels("y", y_, width, height);
    planes_.u = pixels(v_ ? "u" : "uv", u_, v_ ? half_width : 2 * half_width, half_height);
    planes_.v = v_ ? pixels("v", *v_, half_width, half_height) : planes_.u + 1;
    planes_.chroma_step = v_ ? 1 : 2;
    planes_.y_pitch_bytes = pitch(y_);
    planes_.u_pitch_bytes = pitch(u_);
    planes_.v_pitch_bytes = pitch(v_ ? *v_ : u_);
    if (u_.device_id() != device() || (v_ && v_->device_id() != device()))
      throw InvalidArgument("planes must be on one CUDA device");
  }

  [[nodiscard]] int device() const { return y_.device_id(); }
  [[nodiscard]] bool is_nv12() const { return planes_.chroma_step == 2; }
  [[nodiscard]] const kernels::MutableYuvPlanes& planes() const { return planes_; }
  [[nodiscard]] kernels::YuvPlanes source() const {
    const auto& p = planes_;
    return {p.y,           p.u,     p.v,     p.y_pitch_bytes, p.u_pitch_bytes, p.v_pitch_bytes,
            p.chroma_step, p.width, p.height};
  }

  // The copies of all planes to this picture from addresses with pitches; the third is not looked at
  // where there are two planes.
  [[nodiscard]] std::vector<PlaneCopy> copies_from(const std::array<const uint8_t*, 3>& from,
                                                   const std::array<ptrdiff_t, 3>& pitches) const {
    const auto& p = planes_;
    const int half_width = (p.width + 1) / 2, half_height = (p.height + 1) / 2;
    std::vector<PlaneCopy> copies{{p.y, p.y_pitch_bytes, from[0], pitches[0], p.width, p.height}};
    if (is_nv12()) {
      copies.push_back({p.u, p.u_pitch_bytes, from[1], pitches[1], 2 * half_width, half_height});
    } else {
      copies.push_back({p.u, p.u_pitch_bytes, from[1], pitches[1], half_width, half_height});
      copies.push_back({p.v, p.v_pitch_bytes, from[2], pitches[2], half_width, half_height});
    }
    return copies;
  }

 private:
  // PyTorch lends a lone row with a stride of 1.
  static ptrdiff_t pitch(const DevicePlane& plane) {
    return static_cast<ptrdiff_t>(plane.shape(0) > 1 ? plane.stride(0)
                                                     : static_cast<int64_t>(plane.shape(1)));
  }

  static uint8_t* pixels(const char* name, const DevicePlane& plane, int row_bytes, int rows) {
    if (plane.device_type() != nb::device::cuda::value)
      throw InvalidArgument(std::string("plane ") + name + " must be on a CUDA device");
    if (plane.shape(0) != static_cast<size_t>(rows) ||
        plane.shape(1) != static_cast<size_t>(row_bytes) || pitch(plane) < row_bytes ||
        (row_bytes > 1 && plane.stride(1) != 1))
      throw InvalidArgument(std::string("plane ") + name + " must have " + std::to_string(rows) +
                            " rows of " + std::to_string(row_bytes) + " bytes side by side");
    return plane.data();
  }

  DevicePlane y_, u_;
  std::optional<DevicePlane> v_;
  kernels::MutableYuvPlanes planes_{};
};

inline void check_on_device(const DevicePlanes& array, int device) {
  if (array.device_type() != nb::device::cuda::value || array.device_id() != device)
    throw InvalidArgument("tensor must be on the picture's CUDA device");
  if (array.shape(0) != 3 || array.size() == 0)
    throw InvalidArgument("tensor must be (3, H, W) and not empty");
}

using DeviceSums = nb::ndarray<float, nb::ndim<2>, nb::c_contig>;

inline kernels::SimilaritySums* sums_in(const DeviceSums& array, int count, int device) {
  if (array.device_type() != nb::device::cuda::value || array.device_id() != device ||
      array.shape(0) != static_cast<size_t>(count) || array.shape(1) != 3)
    throw InvalidArgument("sums must be (" + std::to_string(count) + ", 3) on the frames' device");
  static_assert(sizeof(kernels::SimilaritySums) == 3 * sizeof(float));
  return reinterpret_cast<kernels::SimilaritySums*>(array.data());
}

inline CUstream_st* stream_of(uintptr_t handle) { return reinterpret_cast<CUstream_st*>(handle); }

inline PlaneCopy turned_round(const PlaneCopy& copy) {
  return {const_cast<void*>(copy.from), copy.from_pitch_bytes, copy.to, copy.to_pitch_bytes,
          copy.row_bytes, copy.rows};
}

// Host planes that fit a device picture, borrowed from Python objects.
class HostPlanes {
 public:
  HostPlanes(const DevicePicture& picture, const nb::object& y, const nb::object& u,
             const nb::object& v, std::array<ptrdiff_t, 3> pitches, bool is_writable)
      : y_(y, is_writable), u_(u, is_writable) {
    if (v.is_none() != picture.is_nv12())
      throw InvalidArgument(picture.is_nv12() ? "an NV12 picture has two planes, got three"
                                              : "an I420 picture has three planes, got two");
    if (!v.is_none()) v_.emplace(v, is_writable);
    const auto& p = picture.planes();
    const int half_width = (p.width + 1) / 2, half_height = (p.height + 1) / 2;
    check_plane("y", y_.bytes().size(), pitches[0], p.width, p.height);
    check_plane(v_ ? "u" : "uv", u_.bytes().size(), pitches[1], v_ ? half_width : 2 * half_width,
                half_height);
    if (v_) check_plane("v", v_->bytes().size(), pitches[2], half_width, half_height);
  }

  [[nodiscard]] std::array<const uint8_t*, 3> addresses() const {
    return {y_.bytes().data(), u_.bytes().data(), v_ ? v_->bytes().data() : nullptr};
  }

 private:
  ByteView y_, u_;
  std::optional<ByteView> v_;
};

}  // namespace lpnode::media
