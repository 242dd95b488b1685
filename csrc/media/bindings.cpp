#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>

#include <array>
#include <optional>
#include <string>
#include <utility>

#include "byte_view.h"
#include "error_translator.h"
#include "media/device_arrays.h"
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

YuvView view_of(const YuvToRgbSpec& spec, std::span<const uint8_t> y, std::span<const uint8_t> u,
                std::span<const uint8_t> v, std::array<ptrdiff_t, 3> pitches, bool is_nv12) {
  const int width = (spec.source_width + 1) / 2, height = (spec.source_height + 1) / 2;
  check_plane("y", y.size(), pitches[0], spec.source_width, spec.source_height);
  check_plane(is_nv12 ? "uv" : "u", u.size(), pitches[1], is_nv12 ? 2 * width : width, height);
  if (!is_nv12) check_plane("v", v.size(), pitches[2], width, height);
  return {y.data(),   u.data(),   is_nv12 ? nullptr : v.data(),
          pitches[0], pitches[1], pitches[2]};
}

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
  m.attr("SIMILARITY_PARTS") = kernels::kSimilarityBlocks;

  m.def(
      "frame_similarity",
      [](const DevicePlanes& first, const DevicePlanes& second, const DeviceSums& scratch,
         const DeviceSums& sums, uintptr_t stream) {
        require_device_convert();
        const int device = first.device_id();
        check_on_device(first, device);
        check_on_device(second, device);
        check_shape(second, static_cast<int>(first.shape(2)), static_cast<int>(first.shape(1)));
        const kernels::Element element = element_of(first);
        if (element_of(second) != element) throw InvalidArgument("frames must have the same dtype");
        frame_similarity_on_device(first.data(), second.data(), element,
                                   static_cast<ptrdiff_t>(first.size()),
                                   sums_in(scratch, kernels::kSimilarityBlocks, device),
                                   sums_in(sums, 1, device), device, stream_of(stream));
      },
      "first"_a.noconvert(), "second"_a.noconvert(), "scratch"_a.noconvert(), "sums"_a.noconvert(),
      "stream"_a,
      nb::sig("def frame_similarity(first: typing.Any, second: typing.Any, scratch: typing.Any, "
              "sums: typing.Any, stream: int) -> None"),
      "Writes the sums of first*second, first*first and second*second over two frames (3, H, W) to "
      "`sums` (1, 3) float32, on their device and on `stream`; `scratch` is (SIMILARITY_PARTS, 3).");

  m.def("require_device_convert", &require_device_convert,
        "Raises NotBuilt, which says how to get them, in a build without the CUDA kernels.");

  nb::class_<DevicePicture>(m, "DevicePicture",
                            "A 4:2:0 picture in fixed device memory, which it keeps alive. Nothing "
                            "but its making allocates, and nothing waits for the device.")
      .def(
          "__init__",
          [](DevicePicture* self, int width, int height, const DevicePlane& y, const DevicePlane& u,
             const std::optional<DevicePlane>& v) {
            require_device_convert();
            new (self) DevicePicture(width, height, y, u, v);
          },
          "width"_a, "height"_a, "y"_a.noconvert(), "u"_a.noconvert(), "v"_a.noconvert().none(),
          nb::sig("def __init__(self, width: int, height: int, y: typing.Any, u: typing.Any, "
                  "v: typing.Any) -> None"),
          "Planes are (rows, bytes) uint8 on one CUDA device, rows at any distance; without `v`, `u` "
          "is NV12's chroma. NotBuilt in a build without CUDA.")
      .def(
          "upload",
          [](DevicePicture& self, const nb::object& y, const nb::object& u, const nb::object& v,
             std::array<ptrdiff_t, 3> pitches, uintptr_t stream) {
            const HostPlanes host(self, y, u, v, pitches, false);
            const auto copies = self.copies_from(host.addresses(), pitches);
            nb::gil_scoped_release unlocked;
            copy_planes_on_device(copies, self.device(), stream_of(stream));
          },
          "y"_a, "u"_a, "v"_a.none(), "pitches_bytes"_a, "stream"_a,
          nb::sig("def upload(self, y: typing_extensions.Buffer, u: typing_extensions.Buffer, "
                  "v: typing_extensions.Buffer | None, pitches_bytes: tuple[int, int, int], "
                  "stream: int) -> None"),
          "Enqueues the copy of host planes into this picture on `stream`. Page-locked planes are "
          "read after the call has returned; others are done with.")
      .def(
          "download",
          [](DevicePicture& self, const nb::object& y, const nb::object& u, const nb::object& v,
             std::array<ptrdiff_t, 3> pitches, uintptr_t stream) {
            const HostPlanes host(self, y, u, v, pitches, true);
            auto copies = self.copies_from(host.addresses(), pitches);
            for (PlaneCopy& copy : copies) copy = turned_round(copy);
            nb::gil_scoped_release unlocked;
            copy_planes_on_device(copies, self.device(), stream_of(stream));
          },
          "y"_a, "u"_a, "v"_a.none(), "pitches_bytes"_a, "stream"_a,
          nb::sig("def download(self, y: typing_extensions.Buffer, u: typing_extensions.Buffer, "
                  "v: typing_extensions.Buffer | None, pitches_bytes: tuple[int, int, int], "
                  "stream: int) -> None"),
          "Enqueues the copy of this picture into host planes on `stream`; page-locked planes are "
          "written after the call has returned, padding between rows with them.")
      .def(
          "copy_from",
          [](DevicePicture& self, const DevicePicture& other, uintptr_t stream) {
            const auto& from = other.planes();
            const auto& to = self.planes();
            if (from.width != to.width || from.height != to.height ||
                from.chroma_step != to.chroma_step || self.device() != other.device())
              throw InvalidArgument("pictures must have the same size, format and device");
            const auto copies =
                self.copies_from({from.y, from.u, from.v},
                                 {from.y_pitch_bytes, from.u_pitch_bytes, from.v_pitch_bytes});
            copy_planes_on_device(copies, self.device(), stream_of(stream));
          },
          "other"_a, "stream"_a, "Enqueues a copy of another picture of the same size and format.")
      .def(
          "to_rgb",
          [](DevicePicture& self, std::array<double, 4> crop, const DevicePlanes& out, int matrix,
             bool is_full_range, std::pair<float, float> value_range, uintptr_t stream) {
            check_on_device(out, self.device());
            const auto params = kernels::yuv_to_rgb_params(
                crop[0], crop[1], crop[2], crop[3], static_cast<int>(out.shape(2)),
                static_cast<int>(out.shape(1)), yuv_to_rgb_matrix(matrix_of(matrix), is_full_range),
                value_range.first, value_range.second);
            yuv_to_rgb_on_device(self.source(), params, out.data(), element_of(out), self.device(),
                                 stream_of(stream));
          },
          "crop"_a, "out"_a.noconvert(), "matrix"_a, "is_full_range"_a, "value_range"_a, "stream"_a,
          nb::sig("def to_rgb(self, crop: tuple[float, float, float, float], out: typing.Any, "
                  "matrix: int, is_full_range: bool, value_range: tuple[float, float], "
                  "stream: int) -> None"),
          "Enqueues one kernel on `stream` that fills `out` (3, H, W), float32, float16 or bfloat16, "
          "with `crop` (x, y, width, height) of this picture.")
      .def(
          "from_rgb",
          [](DevicePicture& self, const DevicePlanes& rgb, int matrix, bool is_full_range,
             std::pair<float, float> value_range, uintptr_t stream) {
            check_on_device(rgb, self.device());
            check_shape(rgb, self.planes().width, self.planes().height);
            const auto params =
                kernels::rgb_to_yuv_params(rgb_to_yuv_matrix(matrix_of(matrix), is_full_range),
                                           value_range.first, value_range.second);
            rgb_to_yuv_on_device(rgb.data(), element_of(rgb), params, self.planes(), self.device(),
                                 stream_of(stream));
          },
          "rgb"_a.noconvert(), "matrix"_a, "is_full_range"_a, "value_range"_a, "stream"_a,
          nb::sig("def from_rgb(self, rgb: typing.Any, matrix: int, is_full_range: bool, "
                  "value_range: tuple[float, float], stream: int) -> None"),
          "Enqueues one kernel on `stream` that writes this picture from `rgb` (3, H, W) of its "
          "size.");
}
