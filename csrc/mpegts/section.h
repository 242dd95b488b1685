// Program specific information: assembling sections, reading and writing PAT and PMT.
// Source: ISO/IEC 13818-1, 2.4.4; Opus in TS (registration and extension descriptor).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "packet.h"

namespace lpnode::mpegts {

// CRC-32/MPEG-2; 0 over a section that includes its own.
[[nodiscard]] uint32_t section_crc(Bytes section);

// Collects the sections of one PID from packet payloads. Holds at most one section, 4 KiB.
class SectionAssembler {
 public:
  // Returns a whole section whose checksum is right, as soon as its last byte is there. The view is
  // valid until the next call.
  [[nodiscard]] std::optional<Bytes> feed(const PacketView& packet);
  void drop() noexcept {
    section_.clear();
    is_whole_ = false;
  }
  [[nodiscard]] uint64_t num_bad() const noexcept { return num_bad_; }

 private:
  std::vector<uint8_t> section_;
  bool is_whole_ = false;  // what follows it, until the next start, belongs to no section
  uint64_t num_bad_ = 0;
};

struct ElementaryStream {
  uint16_t pid = 0;
  uint8_t stream_type = 0;
  bool is_opus = false;
  uint8_t opus_channels = 0;  // channel_config_code of the extension descriptor; 0 if it has none

  bool operator==(const ElementaryStream&) const = default;
};

// PID of the PMT of the first programme, if the section is a PAT that names one.
[[nodiscard]] std::optional<uint16_t> parse_pat(Bytes section);

// The streams of a PMT, or nothing if the section is not one.
[[nodiscard]] std::optional<std::vector<ElementaryStream>> parse_pmt(Bytes section);

// One section of programme 1 with its checksum.
[[nodiscard]] std::vector<uint8_t> make_pat(uint16_t pmt_pid);
[[nodiscard]] std::vector<uint8_t> make_pmt(uint16_t pcr_pid, uint8_t version,
                                            const std::vector<ElementaryStream>& streams);

}  // namespace lpnode::mpegts
