#include "elementary.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace lpnode::mpegts {
namespace {

constexpr uint8_t kNalSlice = 1;
constexpr uint8_t kNalIdr = 5;
constexpr uint8_t kNalSei = 6;
constexpr uint8_t kNalSps = 7;
constexpr uint8_t kNalDelimiter = 9;
constexpr size_t kSeiRecoveryPoint = 6;

constexpr std::array<int, 13> kAdtsRates{96000, 88200, 64000, 48000, 44100, 32000, 24000,
                                         22050, 16000, 12000, 11025, 8000,  7350};

// Offset of the byte after the next 00 00 01 at or after `from`, or the size if there is none.
size_t find_nal(Bytes annexb, size_t from) {
  while (from + 3 < annexb.size()) {
    const void* one = std::memchr(&annexb[from + 2], 1, annexb.size() - from - 2);
    if (one == nullptr) break;
    const size_t at = static_cast<size_t>(static_cast<const uint8_t*>(one) - annexb.data());
    if (annexb[at - 1] == 0 && annexb[at - 2] == 0) return at + 1;
    from = at - 1;
  }
  return annexb.size();
}

// A number written as a run of 255s and a last byte (ITU-T H.264, 7.3.2.3.1); moves `at` past it.
size_t read_sei_number(Bytes sei, size_t& at) {
  size_t number = 0;
  while (at < sei.size()) {
    const uint8_t byte = sei[at++];
    number += byte;
    if (byte != 0xFF) break;
  }
  return number;
}

// Whether one of the messages of an SEI NAL unit, given without its header, is a recovery point.
// Sizes may be off by emulation prevention bytes; what follows in the unit is then not found.
bool has_recovery_point(Bytes sei) {
  constexpr size_t kTrailingBits = 1;
  for (size_t at = 0; at + kTrailingBits < sei.size();) {
    const size_t type = read_sei_number(sei, at);
    if (type == kSeiRecoveryPoint) return true;
    const size_t size = read_sei_number(sei, at);
    if (size >= sei.size() - at) return false;
    at += size;
    if (sei[at] == 0x80) return false;  // trailing bits
  }
  return false;
}

}  // namespace

H264Unit inspect_h264(Bytes annexb) {
  H264Unit unit;
  bool is_first = true;
  for (size_t at = find_nal(annexb, 0); at < annexb.size(); at = find_nal(annexb, at)) {
    const uint8_t type = annexb[at] & 0x1F;
    if (is_first) unit.has_delimiter = type == kNalDelimiter;
    is_first = false;
    if (type == kNalSps) unit.has_parameter_sets = true;
    if (type == kNalSei) {
      const size_t next = find_nal(annexb, at);
      unit.has_recovery_point |= has_recovery_point(annexb.subspan(at + 1, next - at - 1));
    }
    if (type >= kNalSlice && type <= kNalIdr) {
      unit.is_idr = type == kNalIdr;
      break;
    }
  }
  return unit;
}

std::optional<AdtsHeader> parse_adts(Bytes bytes) {
  if (bytes.size() < 7 || bytes[0] != 0xFF || (bytes[1] & 0xF6) != 0xF0) return std::nullopt;
  const size_t rate_index = bytes[2] >> 2 & 0x0F;
  const size_t size = size_t{bytes[3] & 0x03U} << 11 | size_t{bytes[4]} << 3 | bytes[5] >> 5;
  const size_t header_size = (bytes[1] & 1) != 0 ? 7 : 9;
  if (rate_index >= kAdtsRates.size() || size < header_size) return std::nullopt;
  return AdtsHeader{.frame_size = size, .sample_rate = kAdtsRates[rate_index]};
}

std::optional<OpusControlHeader> parse_opus_control(Bytes bytes) {
  if (bytes.size() < 3 || bytes[0] != 0x7F || (bytes[1] & 0xE0) != 0xE0) return std::nullopt;
  const bool has_start_trim = (bytes[1] & 0x10) != 0;
  const bool has_end_trim = (bytes[1] & 0x08) != 0;
  const bool has_extension = (bytes[1] & 0x04) != 0;
  size_t at = 2;
  size_t packet_size = 0;
  for (;;) {
    if (at >= bytes.size()) return std::nullopt;
    const uint8_t part = bytes[at++];
    packet_size += part;
    if (part != 0xFF) break;
  }
  at += has_start_trim ? 2 : 0;
  at += has_end_trim ? 2 : 0;
  if (has_extension) {
    if (at >= bytes.size()) return std::nullopt;
    at += 1 + size_t{bytes[at]};
  }
  if (packet_size > kMaxOpusPacket || at > bytes.size() || packet_size > bytes.size() - at) {
    return std::nullopt;
  }
  return OpusControlHeader{.header_size = at, .packet_size = packet_size};
}

size_t opus_control_size(size_t packet_size) { return 3 + packet_size / 255; }

void write_opus_control(WritableBytes out, size_t packet_size) {
  out[0] = 0x7F;
  out[1] = 0xE0;
  size_t at = 2;
  for (; packet_size >= 255; packet_size -= 255) out[at++] = 255;
  out[at] = static_cast<uint8_t>(packet_size);
}

int64_t opus_duration_ticks(Bytes packet) {
  if (packet.empty()) return 0;
  const int config = packet[0] >> 3;
  int64_t frame_ticks = 0;
  if (config < 12) {
    constexpr std::array<int64_t, 4> kSilk{900, 1800, 3600, 5400};  // 10, 20, 40, 60 ms
    frame_ticks = kSilk[config & 3];
  } else if (config < 16) {
    frame_ticks = (config & 1) != 0 ? 1800 : 900;  // hybrid: 10 or 20 ms
  } else {
    frame_ticks = int64_t{225} << (config & 3);  // CELT: 2.5, 5, 10, 20 ms
  }
  const int code = packet[0] & 3;
  int64_t num_frames = code == 0 ? 1 : 2;
  if (code == 3) num_frames = packet.size() > 1 ? packet[1] & 0x3F : 0;
  return std::min(num_frames * frame_ticks, int64_t{10'800});  // RFC 6716: at most 120 ms
}

}  // namespace lpnode::mpegts
