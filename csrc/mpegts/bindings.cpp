#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/vector.h>

#include "byte_view.h"
#include "demuxer.h"
#include "error_translator.h"
#include "muxer.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace lpnode::mpegts;

namespace {

nb::object write_planned(Muxer& muxer, const PesPlan& plan) {
  nb::object out = nb::steal(
      PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(plan.output_size)));
  if (!out.is_valid()) throw nb::python_error();
  auto* data = reinterpret_cast<uint8_t*>(PyBytes_AsString(out.ptr()));
  muxer.write(plan, WritableBytes(data, plan.output_size));
  return out;
}

using PayloadView = nb::ndarray<nb::memview, const uint8_t, nb::ndim<1>>;

}  // namespace

NB_MODULE(mpegts, m) {
  lpnode::register_error_translator();
  m.doc() = "MPEG-TS: an incremental demultiplexer and a muxer for live H.264 with AAC or Opus.";

  nb::enum_<Codec>(m, "Codec", "How an access unit is coded.")
      .value("H264", Codec::kH264, "Annex B, parameter sets in band")
      .value("AAC", Codec::kAac, "one ADTS frame")
      .value("OPUS", Codec::kOpus, "one packet, without control header");

  nb::class_<AccessUnit>(m, "AccessUnit", "One coded picture or audio packet; owns its bytes.")
      .def_ro("codec", &AccessUnit::codec)
      .def_ro("pts_ticks", &AccessUnit::pts_ticks, "1/90000 s, unwrapped past 33 bits.")
      .def_ro("dts_ticks", &AccessUnit::dts_ticks, "1/90000 s, unwrapped past 33 bits.")
      .def_ro("is_random_access", &AccessUnit::is_random_access, "Decoding may begin here.")
      .def_ro("has_discontinuity", &AccessUnit::has_discontinuity,
              "Data of this track was lost, or restarted, just before.")
      .def_prop_ro(
          "payload",
          [](nb::handle_t<AccessUnit> self) {
            const Bytes payload = nb::cast<const AccessUnit&>(self).payload();
            return PayloadView(payload.data(), {payload.size()}, self);
          },
          nb::sig("def payload(self) -> memoryview"),
          "The coded bytes, read-only, in place; the view keeps the unit alive.");

  nb::class_<ElementaryStream>(m, "ElementaryStream", "One entry of the programme map.")
      .def_ro("pid", &ElementaryStream::pid)
      .def_ro("stream_type", &ElementaryStream::stream_type)
      .def_ro("is_opus", &ElementaryStream::is_opus)
      .def_ro("opus_channels", &ElementaryStream::opus_channels,
              "Channel configuration of the Opus descriptor; 0 if there is none.");

  nb::class_<DemuxerCounters>(m, "DemuxerCounters", "What was skipped since the start.")
      .def_ro("num_continuity_errors", &DemuxerCounters::num_continuity_errors)
      .def_ro("num_bad_sections", &DemuxerCounters::num_bad_sections)
      .def_ro("num_lost_units", &DemuxerCounters::num_lost_units)
      .def_ro("discarded_bytes", &DemuxerCounters::discarded_bytes);

  nb::class_<Demuxer>(m, "Demuxer", "Splits a transport stream into access units as bytes arrive.")
      .def(nb::init<size_t>(), "max_unit_size"_a = 8U << 20)
      .def(
          "feed",
          [](Demuxer& self, nb::handle data) {
            const lpnode::ByteView view(data);
            std::vector<AccessUnit> units;
            {
              nb::gil_scoped_release unlocked;
              self.feed(view.bytes(), units);
            }
            return units;
          },
          "data"_a, nb::sig("def feed(self, data: typing_extensions.Buffer) -> list[AccessUnit]"),
          "Takes the next bytes, split anywhere; returns the units they complete. One thread at a "
          "time; releases the GIL.")
      .def(
          "flush",
          [](Demuxer& self) {
            std::vector<AccessUnit> units;
            self.flush(units);
            return units;
          },
          "The input pauses or ends: returns units whose length was not stated.")
      .def_prop_ro("streams", &Demuxer::streams, nb::rv_policy::copy)
      .def_prop_ro("map_changes", &Demuxer::map_changes, "Programme maps seen; 0 before the first.")
      .def_prop_ro("counters", &Demuxer::counters);

  nb::class_<Muxer>(m, "Muxer", "Writes access units as transport packets, time stamps unchanged.")
      .def(nb::init<bool, uint8_t>(), "has_video"_a = true, "opus_channels"_a = 0)
      .def("set_streams", &Muxer::set_streams, "has_video"_a, "opus_channels"_a,
           "Changes the programme map from the next packet on.")
      .def(
          "video",
          [](Muxer& self, int64_t pts, int64_t dts, nb::handle annexb, bool is_key) {
            const lpnode::ByteView view(annexb);
            return write_planned(self, self.plan_video(pts, dts, view.bytes(), is_key));
          },
          "pts_ticks"_a, "dts_ticks"_a, "annexb"_a, "is_key"_a,
          nb::sig("def video(self, pts_ticks: int, dts_ticks: int, "
                  "annexb: typing_extensions.Buffer, is_key: bool) -> bytes"),
          "One coded picture as packets; tables come first at a key frame. One copy.")
      .def(
          "audio",
          [](Muxer& self, int64_t pts, nb::handle packet) {
            const lpnode::ByteView view(packet);
            return write_planned(self, self.plan_audio(pts, view.bytes()));
          },
          "pts_ticks"_a, "packet"_a,
          nb::sig("def audio(self, pts_ticks: int, packet: typing_extensions.Buffer) -> bytes"),
          "One Opus packet as packets. One copy.");
}
