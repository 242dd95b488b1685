#include "packet.h"

namespace lpnode::mpegts {

PacketView parse_packet(std::span<const uint8_t, kPacketSize> packet) {
  PacketView view;
  view.has_transport_error = (packet[1] & 0x80) != 0;
  view.starts_unit = (packet[1] & 0x40) != 0;
  view.pid = read_u16(&packet[1]) & 0x1FFF;
  view.is_scrambled = (packet[3] & 0xC0) != 0;
  view.has_payload = (packet[3] & 0x10) != 0;
  view.continuity = packet[3] & 0x0F;
  size_t at = 4;
  if ((packet[3] & 0x20) != 0) {
    const size_t length = packet[4];
    at = 5 + length;
    if (at > kPacketSize) {
      view.has_payload = false;
      return view;
    }
    if (length == 0) {
      view.is_stuffed = true;
    } else {
      const uint8_t flags = packet[5];
      view.declares_discontinuity = (flags & 0x80) != 0;
      view.is_random_access = (flags & 0x40) != 0;
      size_t used = 1 + ((flags & 0x10) != 0 ? 6 : 0) + ((flags & 0x08) != 0 ? 6 : 0) +
                    ((flags & 0x04) != 0 ? 1 : 0);
      if ((flags & 0x02) != 0) used += used < length ? 1 + size_t{packet[5 + used]} : 1;
      if ((flags & 0x01) != 0) used += used < length ? 1 + size_t{packet[5 + used]} : 1;
      // A field that says nothing is there to fill two bytes.
      view.is_stuffed = used < length || flags == 0;
    }
  }
  if (view.has_payload) view.payload = packet.subspan(at);
  return view;
}

int64_t read_timestamp(const uint8_t* at) {
  return int64_t{at[0] & 0x0E} << 29 | int64_t{at[1]} << 22 | int64_t{at[2] & 0xFE} << 14 |
         int64_t{at[3]} << 7 | int64_t{at[4]} >> 1;
}

void write_timestamp(uint8_t* at, uint8_t marker, int64_t ticks) {
  at[0] = static_cast<uint8_t>(marker << 4 | (ticks >> 29 & 0x0E) | 1);
  at[1] = static_cast<uint8_t>(ticks >> 22);
  at[2] = static_cast<uint8_t>((ticks >> 14 & 0xFE) | 1);
  at[3] = static_cast<uint8_t>(ticks >> 7);
  at[4] = static_cast<uint8_t>((ticks << 1 & 0xFE) | 1);
}

}  // namespace lpnode::mpegts
