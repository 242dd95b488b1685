// MPEG-TS packets for live H.264 and Opus, written straight into the caller's buffer.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "packet.h"

namespace lpnode::mpegts {

inline constexpr uint16_t kPmtPid = 0x1000;
inline constexpr uint16_t kVideoPid = 0x0100;
inline constexpr uint16_t kAudioPid = 0x0101;

// What one call will write. Made by plan_*, used once by write, in that order.
struct PesPlan {
  bool is_video = true;
  bool has_tables = false;
  bool is_key = false;
  bool adds_delimiter = false;
  bool adds_trailing_zero = false;
  int64_t pts_ticks = 0;
  int64_t dts_ticks = 0;
  std::optional<int64_t> pcr_ticks = std::nullopt;
  size_t header_size = 0;   // PES header and what is put before the payload
  size_t stated_size = 0;   // PES_packet_length; 0: not stated
  size_t num_packets = 0;   // without tables
  size_t output_size = 0;   // bytes
  Bytes payload = {};
};

// Time stamps are written as they are given, modulo 2^33: no offset, no rebasing. Nothing is held
// back to interleave. One thread at a time.
class Muxer {
 public:
  // opus_channels: 0 without audio; else the channel configuration in the Opus descriptor.
  Muxer(bool has_video, uint8_t opus_channels);

  // Changes the programme map; the next call writes it with a new version.
  void set_streams(bool has_video, uint8_t opus_channels);

  // Throws InvalidArgument on an empty payload, or a stream that the map does not have.
  [[nodiscard]] PesPlan plan_video(int64_t pts_ticks, int64_t dts_ticks, Bytes annexb, bool is_key);
  [[nodiscard]] PesPlan plan_audio(int64_t pts_ticks, Bytes opus_packet);

  // out: exactly plan.output_size bytes. Makes the only copy of the payload.
  void write(const PesPlan& plan, WritableBytes out);

 private:
  void plan_tables_and_clock(PesPlan& plan);
  uint8_t* write_section(uint8_t* out, uint16_t pid, uint8_t& continuity, Bytes section);

  bool has_video_;
  uint8_t opus_channels_;
  uint8_t version_ = 0;
  std::vector<uint8_t> pat_;
  std::vector<uint8_t> pmt_;
  std::optional<int64_t> last_tables_ticks_;
  std::optional<int64_t> last_pcr_ticks_;
  uint8_t pat_continuity_ = 0;
  uint8_t pmt_continuity_ = 0;
  uint8_t video_continuity_ = 0;
  uint8_t audio_continuity_ = 0;
};

}  // namespace lpnode::mpegts
