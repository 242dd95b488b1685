// The 188-byte transport packet and the PES time stamp.
// Source: ISO/IEC 13818-1, 2.4.3.2 and 2.4.3.6.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace lpnode::mpegts {

using Bytes = std::span<const uint8_t>;
using WritableBytes = std::span<uint8_t>;

inline constexpr size_t kPacketSize = 188;
inline constexpr uint8_t kSyncByte = 0x47;
inline constexpr uint16_t kPatPid = 0x0000;
inline constexpr uint16_t kNullPid = 0x1FFF;
inline constexpr int64_t kTimestampModulus = int64_t{1} << 33;
inline constexpr int64_t kTicksPerSecond = 90'000;

inline constexpr uint8_t kStreamTypeAac = 0x0F;
inline constexpr uint8_t kStreamTypePrivate = 0x06;
inline constexpr uint8_t kStreamTypeH264 = 0x1B;
inline constexpr uint8_t kDescriptorRegistration = 0x05;
inline constexpr uint8_t kDescriptorExtension = 0x7F;
inline constexpr uint8_t kExtensionOpus = 0x80;

[[nodiscard]] inline uint16_t read_u16(const uint8_t* at) {
  return static_cast<uint16_t>(at[0] << 8 | at[1]);
}

// One packet, read in place. `payload` is empty when the packet carries none or is malformed.
struct PacketView {
  uint16_t pid = kNullPid;
  uint8_t continuity = 0;
  bool has_transport_error = false;
  bool is_scrambled = false;
  bool starts_unit = false;
  bool has_payload = false;
  bool is_random_access = false;
  bool declares_discontinuity = false;
  bool is_stuffed = false;  // the adaptation field holds stuffing, as in the last packet of a PES
  Bytes payload;
};

[[nodiscard]] PacketView parse_packet(std::span<const uint8_t, kPacketSize> packet);

// The five bytes of a PTS or DTS; `marker` is the upper nibble of the first.
[[nodiscard]] int64_t read_timestamp(const uint8_t* at);
void write_timestamp(uint8_t* at, uint8_t marker, int64_t ticks);

// The value congruent to `wrapped` modulo 2^33 that is nearest to `reference`.
[[nodiscard]] inline int64_t unwrap_timestamp(int64_t wrapped, int64_t reference) {
  int64_t forward = (wrapped - reference) & (kTimestampModulus - 1);
  if (forward >= kTimestampModulus / 2) forward -= kTimestampModulus;
  return reference + forward;
}

}  // namespace lpnode::mpegts
