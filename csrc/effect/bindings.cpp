#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>

#include <array>

#include "effect/edge_style.h"
#include "error.h"
#include "error_translator.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace lpnode::effect {
namespace {

using Frame = nb::ndarray<const float, nb::shape<3, -1, -1>, nb::c_contig, nb::device::cpu>;
using Out = nb::ndarray<float, nb::shape<3, -1, -1>, nb::c_contig, nb::device::cpu>;

Rgb rgb(const std::array<float, 3>& c) { return {c[0], c[1], c[2]}; }

void check_apart(const Frame& frame, const Out& out) {
  if (frame.shape(1) != out.shape(1) || frame.shape(2) != out.shape(2))
    throw InvalidArgument("frame and out must have the same shape");
  if (frame.data() < out.data() + out.size() && out.data() < frame.data() + frame.size())
    throw InvalidArgument("frame and out must not overlap");
}

}  // namespace
}  // namespace lpnode::effect

NB_MODULE(effect, m) {
  using namespace lpnode::effect;
  lpnode::register_error_translator();
  m.def(
      "edge_style",
      [](const Frame& frame, const Out& out, float strength, float threshold, float softness,
         int levels, const std::array<float, 3>& tint, const std::array<float, 3>& ink) {
        check_apart(frame, out);
        const EdgeStyle style{strength, threshold, softness, levels, rgb(tint), rgb(ink)};
        nb::gil_scoped_release unlocked;
        edge_style(style, static_cast<int>(frame.shape(2)), static_cast<int>(frame.shape(1)),
                   frame.data(), out.data());
      },
      "frame"_a.noconvert(), "out"_a.noconvert(), nb::kw_only(), "strength"_a, "threshold"_a, "softness"_a, "levels"_a,
      "tint"_a, "ink"_a,
      nb::sig("def edge_style(frame: typing.Any, out: typing.Any, *, strength: float, "
              "threshold: float, softness: float, levels: int, "
              "tint: tuple[float, float, float], ink: tuple[float, float, float]) -> None"),
      "Draws `frame` (3, H, W) float32, 0..1, into `out` of the same shape: flat areas of `levels` "
      "values a colour multiplied by `tint`, lines of `ink` where the luma gradient passes "
      "`threshold` and solid from `threshold + softness`; `strength` mixes that with the picture.");
  m.def("edge_style_path", &edge_style_path,
        "The instruction set edge_style uses on this machine: avx2 or portable.");
}
