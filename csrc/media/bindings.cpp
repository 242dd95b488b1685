#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>

#include <optional>
#include <string>
#include <utility>

#include "byte_view.h"
#include "error_translator.h"
#include "media/device_convert.h"
#include "media/frame_paths.h"
#include "media/rgb_to_yuv.h"
#include "media/yuv_to_rgb.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace lpnode::media {
namespace {

using Planes = nb::ndarray<nb::ndim<3>, nb::c_contig, nb::device::cpu>;
using ConstPlanes = nb::ndarray<nb::ro, nb::ndim<3>, nb::c_contig, nb::device::cpu>;

Matrix matrix_of(int value) {
  if (value != static_cast<int>(Matrix::kBt709) && value != static_cast<int>(Matrix::kBt601))
    throw InvalidArgument("matrix must be 1 (BT.709) or 6 (BT.601), got " + std::to_string(value));
  return static_cast<Matrix>(value);
}

template <typename Array>
void check_shape(const Array& array, int width, int height) {
  if (array.shape(0) == 3 && array.shape(1) == static_cast<size_t>(height) &&
      array.shape(2) == static_cast<size_t>(width))
    return;
  throw InvalidArgument("tensor must be (3, " + std::to_string(height) + ", " +
                        std::to_string(width) + "), got (" + std::to_string(array.shape(0)) + ", " +
                        std::to_string(array.shape(1)) + ", " + std::to_string(array.shape(2)) +
                        ")");
}

// Calls `act` with the data as float* or Half*.
template <typename Array, typename Act>
void with_elements(const Array& array, Act act) {
  using Void = std::remove_pointer_t<decltype(array.data())>;
  constexpr bool is_const = std::is_const_v<Void>;
  using Float = std::conditional_t<is_const, const float, float>;
  using Float16 = std::conditional_t<is_const, const Half, Half>;
  const auto kind = static_cast<nb::dlpack::dtype_code>(array.dtype().code);
  if (kind == nb::dlpack::dtype_code::Float && array.dtype().bits == 32)
    act(reinterpret_cast<Float*>(array.data()));
  else if (kind == nb::dlpack::dtype_code::Float && array.dtype().bits == 16)
    act(reinterpret_cast<Float16*>(array.data()));
  else
    throw InvalidArgument("tensor must be float32 or float16");
}

void check_plane(const char* name, size_t length, ptrdiff_t pitch, int row_bytes, int rows) {
  const bool holds = pitch >= row_bytes &&
                     length >= static_cast<size_t>(pitch) * (rows - 1) + row_bytes;
  if (!holds)
    throw InvalidArgument(std::string("plane ") + name + " must hold " + std::to_string(rows) +
                          " rows of " + std::to_string(row_bytes) + " bytes, got " +
                          std::to_string(length) + " bytes at a pitch of " + std::to_string(pitch));
}

YuvView view_of(const YuvToRgbSpec& spec, std::span<const uint8_t> y, std::span<const uint8_t> u,
                std::span<const uint8_t> v, std::array<ptrdiff_t, 3> pitches, bool is_nv12) {
  const int width = (spec.source_width + 1) / 2, height = (spec.source_height + 1) / 2;
  check_plane("y", y.size(), pitches[0], spec.source_width, spec.source_height);
  check_plane(is_nv12 ? "uv" : "u", u.size(), pitches[1], is_nv12 ? 2 * width : width, height);
  if (!is_nv12) check_plane("v", v.size(), pitches[2], width, height);
  return {y.data(),   u.data(),   is_nv12 ? nullptr : v.data(),
          pitches[0], pitches[1], pitches[2]};
}

using DevicePlane = nb::ndarray<uint8_t, nb::ndim<2>, nb::c_contig>;
using DevicePlanes = nb::ndarray<nb::ndim<3>, nb::c_contig>;

kernels::Element element_of(const DevicePlanes& array) {
  const auto kind = static_cast<nb::dlpack::dtype_code>(array.dtype().code);
  const int bits = array.dtype().bits;
  if (kind == nb::dlpack::dtype_code::Float && bits == 32) return kernels::Element::kFloat32;
  if (kind == nb::dlpack::dtype_code::Float && bits == 16) return kernels::Element::kFloat16;
  if (kind == nb::dlpack::dtype_code::Bfloat && bits == 16) return kernels::Element::kBfloat16;
  throw InvalidArgument("tensor must be float32, float16 or bfloat16");
}

// A plane of whole rows: its second dimension is the pitch.
uint8_t* device_plane(const char* name, const DevicePlane& plane, int row_bytes, int rows) {
  if (plane.device_type() != nb::device::cuda::value)
    throw InvalidArgument(std::string("plane ") + name + " must be on a CUDA device");
  const auto pitch = static_cast<ptrdiff_t>(plane.shape(1));
  check_plane(name, plane.size(), pitch, row_bytes, rows);
  return plane.data();
}

kernels::MutableYuvPlanes device_planes(const DevicePlane& y, const DevicePlane& u,
                                        const std::optional<DevicePlane>& v, int width,
                                        int height) {
  const int half_width = (width + 1) / 2, half_height = (height + 1) / 2;
  const auto pitch = [](const DevicePlane& plane) {
    return static_cast<ptrdiff_t>(plane.shape(1));
  };
  kernels::MutableYuvPlanes out{};
  out.width = width;
  out.height = height;
  out.y = device_plane("y", y, width, height);
  out.y_pitch_bytes = pitch(y);
  out.u_pitch_bytes = pitch(u);
  if (v) {
    out.u = device_plane("u", u, half_width, half_height);
    out.v = device_plane("v", *v, half_width, half_height);
    out.v_pitch_bytes = pitch(*v);
    out.chroma_step = 1;
  } else {
    out.u = device_plane("uv", u, 2 * half_width, half_height);
    out.v = out.u + 1;
    out.v_pitch_bytes = out.u_pitch_bytes;
    out.chroma_step = 2;
  }
  return out;
}

void check_on_device(const DevicePlanes& array) {
  if (array.device_type() != nb::device::cuda::value)
    throw InvalidArgument("tensor must be on a CUDA device");
  if (array.shape(0) != 3 || array.size() == 0)
    throw InvalidArgument("tensor must be (3, H, W) and not empty");
}

CUstream_st* stream_of(uintptr_t handle) { return reinterpret_cast<CUstream_st*>(handle); }

void convert_to_rgb(const YuvToRgb& self, const YuvView& source, const Planes& out) {
  check_shape(out, self.spec().width, self.spec().height);
  with_elements(out, [&](auto* elements) {
    nb::gil_scoped_release unlocked;
    self.convert(source, elements);
  });
}

}  // namespace
}  // namespace lpnode::media

NB_MODULE(media, m) {
  using namespace lpnode;
  using namespace lpnode::media;
  register_error_translator();

  m.def("best_simd_path", [] { return std::string(simd_path_name(best_simd_path(kFramePaths))); },
        "The fastest conversion path this machine runs: avx512, avx2 or portable.");

  nb::class_<YuvToRgb>(m, "YuvToRgb",
                       "The sampling tables of one geometry; made once, used for every frame.")
      .def(
          "__init__",
          [](YuvToRgb* self, std::pair<int, int> source_size, std::array<double, 4> crop,
             std::pair<int, int> size, int matrix, bool is_full_range,
             std::pair<float, float> value_range, std::string_view path) {
            new (self) YuvToRgb({source_size.first, source_size.second,
                                 {crop[0], crop[1], crop[2], crop[3]}, size.first, size.second,
                                 matrix_of(matrix), is_full_range, value_range.first,
                                 value_range.second},
                                simd_path_named(path, kFramePaths));
          },
          "source_size"_a, "crop"_a, "size"_a, "matrix"_a, "is_full_range"_a, "value_range"_a,
          "path"_a = "auto",
          "Sizes are (width, height); crop is (x, y, width, height) in source pixels; matrix is an "
          "H.273 value.")
      .def(
          "convert_i420",
          [](const YuvToRgb& self, const nb::object& y, const nb::object& u, const nb::object& v,
             std::array<ptrdiff_t, 3> pitches_bytes, const Planes& out) {
            const ByteView y_bytes(y), u_bytes(u), v_bytes(v);
            convert_to_rgb(self,
                           view_of(self.spec(), y_bytes.bytes(), u_bytes.bytes(), v_bytes.bytes(),
                                   pitches_bytes, false),
                           out);
          },
          "y"_a, "u"_a, "v"_a, "pitches_bytes"_a, "out"_a.noconvert(),
          nb::sig("def convert_i420(self, y: typing_extensions.Buffer, u: typing_extensions.Buffer, "
                  "v: typing_extensions.Buffer, pitches_bytes: tuple[int, int, int], "
                  "out: typing.Any) -> None"),
          "Fills `out` (3, height, width), float32 or float16, contiguous, in host memory.")
      .def(
          "convert_nv12",
          [](const YuvToRgb& self, const nb::object& y, const nb::object& uv,
             std::array<ptrdiff_t, 2> pitches_bytes, const Planes& out) {
            const ByteView y_bytes(y), uv_bytes(uv);
            convert_to_rgb(self,
                           view_of(self.spec(), y_bytes.bytes(), uv_bytes.bytes(), {},
                                   {pitches_bytes[0], pitches_bytes[1], 0}, true),
                           out);
          },
          "y"_a, "uv"_a, "pitches_bytes"_a, "out"_a.noconvert(),
          nb::sig("def convert_nv12(self, y: typing_extensions.Buffer, "
                  "uv: typing_extensions.Buffer, pitches_bytes: tuple[int, int], "
                  "out: typing.Any) -> None"),
          "Fills `out` as convert_i420 does, from interleaved chroma.");

  m.def(
      "rgb_to_i420",
      [](const ConstPlanes& rgb, const nb::object& y, const nb::object& u, const nb::object& v,
         std::array<ptrdiff_t, 3> pitches_bytes, int matrix, bool is_full_range,
         std::pair<float, float> value_range, std::string_view path) {
        const int height = static_cast<int>(rgb.shape(1)), width = static_cast<int>(rgb.shape(2));
        check_shape(rgb, width, height);
        if (width < 1 || height < 1) throw InvalidArgument("tensor must not be empty");
        if (!(value_range.first != value_range.second))
          throw InvalidArgument("value range must be two different numbers");
        const RgbToYuvSpec spec{width,         height,           matrix_of(matrix),
                                is_full_range, value_range.first, value_range.second};
        const SimdPath chosen = simd_path_named(path, kFramePaths);
        ByteView y_bytes(y, true), u_bytes(u, true), v_bytes(v, true);
        const int half_width = (width + 1) / 2, half_height = (height + 1) / 2;
        check_plane("y", y_bytes.bytes().size(), pitches_bytes[0], width, height);
        check_plane("u", u_bytes.bytes().size(), pitches_bytes[1], half_width, half_height);
        check_plane("v", v_bytes.bytes().size(), pitches_bytes[2], half_width, half_height);
        const MutableYuvView out{y_bytes.writable_bytes().data(), u_bytes.writable_bytes().data(),
                                 v_bytes.writable_bytes().data(), pitches_bytes[0],
                                 pitches_bytes[1],                pitches_bytes[2]};
        with_elements(rgb, [&](const auto* elements) {
          nb::gil_scoped_release unlocked;
          rgb_to_yuv(spec, chosen, elements, out);
        });
      },
      "rgb"_a.noconvert(), "y"_a, "u"_a, "v"_a, "pitches_bytes"_a, "matrix"_a, "is_full_range"_a,
      "value_range"_a, "path"_a = "auto",
      nb::sig("def rgb_to_i420(rgb: typing.Any, y: typing_extensions.Buffer, "
              "u: typing_extensions.Buffer, v: typing_extensions.Buffer, "
              "pitches_bytes: tuple[int, int, int], matrix: int, is_full_range: bool, "
              "value_range: tuple[float, float], path: str = 'auto') -> None"),
      "Writes 4:2:0 planes from `rgb` (3, H, W), float32 or float16, contiguous, in host memory.");

  m.def("has_device_convert", &has_device_convert, "Whether this build has the CUDA kernels.");

  m.def(
      "yuv_to_rgb_device",
      [](const DevicePlane& y, const DevicePlane& u, const std::optional<DevicePlane>& v,
         std::pair<int, int> source_size, std::array<double, 4> crop, const DevicePlanes& out,
         int matrix, bool is_full_range, std::pair<float, float> value_range, uintptr_t stream) {
        require_device_convert();
        check_on_device(out);
        const auto p = device_planes(y, u, v, source_size.first, source_size.second);
        const auto params = kernels::yuv_to_rgb_params(
            crop[0], crop[1], crop[2], crop[3], static_cast<int>(out.shape(2)),
            static_cast<int>(out.shape(1)), yuv_to_rgb_matrix(matrix_of(matrix), is_full_range),
            value_range.first, value_range.second);
        yuv_to_rgb_on_device({p.y, p.u, p.v, p.y_pitch_bytes, p.u_pitch_bytes, p.v_pitch_bytes,
                              p.chroma_step, p.width, p.height},
                             params, out.data(), element_of(out), stream_of(stream));
      },
      "y"_a.noconvert(), "u"_a.noconvert(), "v"_a.noconvert().none(), "source_size"_a, "crop"_a,
      "out"_a.noconvert(), "matrix"_a, "is_full_range"_a, "value_range"_a, "stream"_a,
      nb::sig("def yuv_to_rgb_device(y: typing.Any, u: typing.Any, v: typing.Any, "
              "source_size: tuple[int, int], crop: tuple[float, float, float, float], "
              "out: typing.Any, matrix: int, is_full_range: bool, "
              "value_range: tuple[float, float], stream: int) -> None"),
      "Fills `out` (3, H, W), float32, float16 or bfloat16, from planes (rows, pitch) uint8 on the "
      "same CUDA device; without `v`, `u` is NV12's chroma. Enqueued on `stream`, a CUDA stream of "
      "the current device; NotBuilt in a build without CUDA.");

  m.def(
      "rgb_to_yuv_device",
      [](const DevicePlanes& rgb, const DevicePlane& y, const DevicePlane& u,
         const std::optional<DevicePlane>& v, int matrix, bool is_full_range,
         std::pair<float, float> value_range, uintptr_t stream) {
        require_device_convert();
        check_on_device(rgb);
        const auto planes = device_planes(y, u, v, static_cast<int>(rgb.shape(2)),
                                          static_cast<int>(rgb.shape(1)));
        const auto params = kernels::rgb_to_yuv_params(
            rgb_to_yuv_matrix(matrix_of(matrix), is_full_range), value_range.first,
            value_range.second);
        rgb_to_yuv_on_device(rgb.data(), element_of(rgb), params, planes, stream_of(stream));
      },
      "rgb"_a.noconvert(), "y"_a.noconvert(), "u"_a.noconvert(), "v"_a.noconvert().none(),
      "matrix"_a, "is_full_range"_a, "value_range"_a, "stream"_a,
      nb::sig("def rgb_to_yuv_device(rgb: typing.Any, y: typing.Any, u: typing.Any, "
              "v: typing.Any, matrix: int, is_full_range: bool, "
              "value_range: tuple[float, float], stream: int) -> None"),
      "Writes planes (rows, pitch) uint8 from `rgb` (3, H, W) on the same CUDA device, as "
      "yuv_to_rgb_device reads them.");
}
