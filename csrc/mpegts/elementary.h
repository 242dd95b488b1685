// What the demuxer and muxer need to know of H.264, ADTS and Opus; nothing is decoded.
#pragma once

#include <cstdint>
#include <optional>

#include "packet.h"

namespace lpnode::mpegts {

// Annex B access unit, read up to its first slice. Source: ITU-T H.264, 7.4.1 and Annex B.
struct H264Unit {
  bool has_delimiter = false;       // begins with an access unit delimiter
  bool has_parameter_sets = false;  // a sequence parameter set before the first slice
  bool is_idr = false;
  bool has_recovery_point = false;  // SEI: pictures are right some frames after this one
};

[[nodiscard]] H264Unit inspect_h264(Bytes annexb);

// Source: ISO/IEC 13818-7, 6.2 (adts_fixed_header, adts_variable_header).
struct AdtsHeader {
  size_t frame_size = 0;  // bytes, header included
  int sample_rate = 0;
};

// Nothing if the bytes are no ADTS header. At least 7 bytes.
[[nodiscard]] std::optional<AdtsHeader> parse_adts(Bytes bytes);

// RFC 6716, 3.4: at most 48 frames of 1275 bytes.
inline constexpr size_t kMaxOpusPacket = 61'440;

// opus_control_header() before each Opus packet. Source: Opus in TS, table 4-1.
struct OpusControlHeader {
  size_t header_size = 0;  // bytes
  size_t packet_size = 0;  // bytes that follow
};

[[nodiscard]] std::optional<OpusControlHeader> parse_opus_control(Bytes bytes);
[[nodiscard]] size_t opus_control_size(size_t packet_size);
void write_opus_control(WritableBytes out, size_t packet_size);

// Duration of an Opus packet in 90 kHz ticks, from its TOC byte. Source: RFC 6716, 3.1 and 3.2.
[[nodiscard]] int64_t opus_duration_ticks(Bytes packet);

}  // namespace lpnode::mpegts
