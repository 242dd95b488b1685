#include "muxer.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "elementary.h"
#include "error.h"
#include "section.h"

namespace lpnode::mpegts {
namespace {

constexpr size_t kPacketPayload = kPacketSize - 4;
constexpr size_t kClockField = 8;  // adaptation length, flags, PCR
constexpr int64_t kTablesInterval = kTicksPerSecond / 10;
// How far the clock runs behind decoding time, as in what gateways send (live.md 4.1).
constexpr int64_t kClockLead = kTicksPerSecond / 10;
constexpr std::array<uint8_t, 6> kDelimiter{0, 0, 0, 1, 0x09, 0xF0};
constexpr uint8_t kVideoStreamId = 0xE0;
constexpr uint8_t kPrivateStreamId = 0xBD;

int64_t wrap(int64_t ticks) { return ticks & (kTimestampModulus - 1); }

uint8_t* put(uint8_t* out, Bytes bytes) {
  std::memcpy(out, bytes.data(), bytes.size());
  return out + bytes.size();
}

void write_clock(uint8_t* at, int64_t ticks) {
  at[0] = static_cast<uint8_t>(ticks >> 25);
  at[1] = static_cast<uint8_t>(ticks >> 17);
  at[2] = static_cast<uint8_t>(ticks >> 9);
  at[3] = static_cast<uint8_t>(ticks >> 1);
  at[4] = static_cast<uint8_t>((ticks & 1) << 7 | 0x7E);
  at[5] = 0;
}

// PES header, delimiter or Opus control header: what stands before the payload.
size_t write_header(const PesPlan& plan, uint8_t* out) {
  const bool has_dts = plan.dts_ticks != plan.pts_ticks;
  uint8_t* at = out;
  at = put(at, std::array<uint8_t, 9>{
                   0, 0, 1, plan.is_video ? kVideoStreamId : kPrivateStreamId,
                   static_cast<uint8_t>(plan.stated_size >> 8),
                   static_cast<uint8_t>(plan.stated_size), 0x84,  // data alignment
                   static_cast<uint8_t>(has_dts ? 0xC0 : 0x80),
                   static_cast<uint8_t>(has_dts ? 10 : 5)});
  write_timestamp(at, has_dts ? 3 : 2, wrap(plan.pts_ticks));
  at += 5;
  if (has_dts) {
    write_timestamp(at, 1, wrap(plan.dts_ticks));
    at += 5;
  }
  if (plan.adds_delimiter) at = put(at, kDelimiter);
  if (!plan.is_video) {
    const size_t size = opus_control_size(plan.payload.size());
    write_opus_control(WritableBytes(at, size), plan.payload.size());
    at += size;
  }
  return static_cast<size_t>(at - out);
}

}  // namespace

Muxer::Muxer(bool has_video, uint8_t opus_channels)
    : has_video_(has_video), opus_channels_(opus_channels), pat_(make_pat(kPmtPid)) {
  set_streams(has_video, opus_channels);
  version_ = 0;
}

void Muxer::set_streams(bool has_video, uint8_t opus_channels) {
  if (!has_video && opus_channels == 0) throw InvalidArgument("a programme needs video or audio");
  const bool is_same = has_video == has_video_ && opus_channels == opus_channels_;
  if (is_same && !pmt_.empty()) return;
  has_video_ = has_video;
  opus_channels_ = opus_channels;
  if (!pmt_.empty()) version_ = (version_ + 1) & 0x1F;
  std::vector<ElementaryStream> streams;
  if (has_video) streams.push_back({.pid = kVideoPid, .stream_type = kStreamTypeH264});
  if (opus_channels != 0) {
    streams.push_back({.pid = kAudioPid,
                       .stream_type = kStreamTypePrivate,
                       .is_opus = true,
                       .opus_channels = opus_channels});
  }
  pmt_ = make_pmt(has_video ? kVideoPid : kAudioPid, version_, streams);
  last_tables_ticks_.reset();
}

void Muxer::plan_tables_and_clock(PesPlan& plan) {
  const int64_t now = plan.dts_ticks;
  const bool is_due = !last_tables_ticks_ || now - *last_tables_ticks_ >= kTablesInterval ||
                      now < *last_tables_ticks_ - kTicksPerSecond;
  // Tables follow the clock's own stream; the other one gets them when the map is new.
  const bool carries_clock = plan.is_video == has_video_;
  plan.has_tables = plan.is_key || !last_tables_ticks_ || (carries_clock && is_due);
  if (carries_clock) plan.pcr_ticks = wrap(now - kClockLead);
  if (plan.has_tables) last_tables_ticks_ = now;

  std::array<uint8_t, 1024> scratch;
  if (!plan.is_video && plan.payload.size() > kMaxOpusPacket) {
    throw InvalidArgument("an Opus packet has at most 61440 bytes");
  }
  plan.header_size = write_header(plan, scratch.data());
  size_t pes_size = plan.header_size + plan.payload.size();
  if (pes_size - 6 <= 0xFFFF) plan.stated_size = pes_size - 6;
  const size_t field = plan.pcr_ticks ? kClockField : 0;
  // Without a stated length, stuffing in the last packet tells the reader that the unit is whole
  // (Note [End of an access unit]); a zero byte after the last NAL unit makes room for it.
  plan.adds_trailing_zero =
      plan.stated_size == 0 && (pes_size + field) % kPacketPayload == 0;
  pes_size += plan.adds_trailing_zero ? 1 : 0;
  plan.num_packets = (pes_size + field + kPacketPayload - 1) / kPacketPayload;
  plan.output_size = (plan.num_packets + (plan.has_tables ? 2 : 0)) * kPacketSize;
}

PesPlan Muxer::plan_video(int64_t pts_ticks, int64_t dts_ticks, Bytes annexb, bool is_key) {
  if (!has_video_) throw InvalidArgument("the programme has no video");
  if (annexb.size() < 5) throw InvalidArgument("a coded picture has at least 5 bytes");
  PesPlan plan{.is_key = is_key,
               .adds_delimiter = !inspect_h264(annexb).has_delimiter,
               .pts_ticks = pts_ticks,
               .dts_ticks = dts_ticks,
               .payload = annexb};
  plan_tables_and_clock(plan);
  return plan;
}

PesPlan Muxer::plan_audio(int64_t pts_ticks, Bytes opus_packet) {
  if (opus_channels_ == 0) throw InvalidArgument("the programme has no audio");
  if (opus_packet.empty()) throw InvalidArgument("an Opus packet has at least 1 byte");
  PesPlan plan{.is_video = false,
               .pts_ticks = pts_ticks,
               .dts_ticks = pts_ticks,
               .payload = opus_packet};
  plan_tables_and_clock(plan);
  return plan;
}

uint8_t* Muxer::write_section(uint8_t* out, uint16_t pid, uint8_t& continuity, Bytes section) {
  uint8_t* const end = out + kPacketSize;
  out = put(out, std::array<uint8_t, 5>{kSyncByte, static_cast<uint8_t>(0x40 | pid >> 8),
                                        static_cast<uint8_t>(pid),
                                        static_cast<uint8_t>(0x10 | continuity), 0});
  continuity = (continuity + 1) & 0x0F;
  out = put(out, section);
  std::fill(out, end, 0xFF);
  return end;
}

void Muxer::write(const PesPlan& plan, WritableBytes bytes) {
  if (bytes.size() != plan.output_size) {
    throw InvalidArgument("the buffer must have the planned size");
  }
  uint8_t* out = bytes.data();
  if (plan.has_tables) {
    out = write_section(out, kPatPid, pat_continuity_, pat_);
    out = write_section(out, kPmtPid, pmt_continuity_, pmt_);
  }
  std::array<uint8_t, 1024> header_bytes;
  Bytes header(header_bytes.data(), write_header(plan, header_bytes.data()));
  Bytes payload = plan.payload;
  const uint16_t pid = plan.is_video ? kVideoPid : kAudioPid;
  uint8_t& continuity = plan.is_video ? video_continuity_ : audio_continuity_;
  for (size_t i = 0; i < plan.num_packets; ++i) {
    const bool is_first = i == 0;
    const bool has_clock = is_first && plan.pcr_ticks.has_value();
    size_t field = has_clock ? kClockField : 0;
    const size_t remaining = header.size() + payload.size() + (plan.adds_trailing_zero ? 1 : 0);
    const size_t room = kPacketPayload - field;
    if (remaining < room) field = kPacketPayload - remaining;

    out = put(out, std::array<uint8_t, 4>{
                       kSyncByte, static_cast<uint8_t>((is_first ? 0x40 : 0) | pid >> 8),
                       static_cast<uint8_t>(pid),
                       static_cast<uint8_t>((field > 0 ? 0x30 : 0x10) | continuity)});
    continuity = (continuity + 1) & 0x0F;
    if (field > 0) {
      uint8_t* const end = out + field;
      *out++ = static_cast<uint8_t>(field - 1);
      if (field > 1) {
        const bool is_access_point = is_first && plan.is_key;
        *out++ = static_cast<uint8_t>((is_access_point ? 0x40 : 0) | (has_clock ? 0x10 : 0));
        if (has_clock) {
          write_clock(out, *plan.pcr_ticks);
          out += 6;
        }
      }
      std::fill(out, end, 0xFF);
      out = end;
    }
    size_t left = kPacketPayload - field;
    const size_t from_header = std::min(left, header.size());
    out = put(out, header.first(from_header));
    header = header.subspan(from_header);
    left -= from_header;
    const size_t from_payload = std::min(left, payload.size());
    out = put(out, payload.first(from_payload));
    payload = payload.subspan(from_payload);
    left -= from_payload;
    // Only the trailing zero can still be missing here.
    if (left == 1) *out++ = 0;
  }
}

}  // namespace lpnode::mpegts
