#include "section.h"

#include <array>

namespace lpnode::mpegts {
namespace {

constexpr size_t kMaxSectionSize = 4096;
constexpr uint8_t kPatTable = 0x00;
constexpr uint8_t kPmtTable = 0x02;

constexpr std::array<uint32_t, 256> make_crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i << 24;
    for (int bit = 0; bit < 8; ++bit) crc = crc << 1 ^ (crc & 0x80000000U ? 0x04C11DB7U : 0);
    table[i] = crc;
  }
  return table;
}

constexpr auto kCrcTable = make_crc_table();

void append_u16(std::vector<uint8_t>& out, uint32_t value) {
  out.push_back(static_cast<uint8_t>(value >> 8));
  out.push_back(static_cast<uint8_t>(value));
}

std::vector<uint8_t> begin_section(uint8_t table, uint8_t version) {
  std::vector<uint8_t> out{table, 0, 0};  // the length is filled in by end_section
  append_u16(out, 1);                     // transport stream id, or programme number
  out.push_back(static_cast<uint8_t>(0xC1 | (version & 0x1F) << 1));
  append_u16(out, 0);  // section 0 of 0
  return out;
}

std::vector<uint8_t> end_section(std::vector<uint8_t> out) {
  const size_t length = out.size() - 3 + 4;
  out[1] = static_cast<uint8_t>(0xB0 | length >> 8);
  out[2] = static_cast<uint8_t>(length);
  const uint32_t crc = section_crc(out);
  append_u16(out, crc >> 16);
  append_u16(out, crc & 0xFFFF);
  return out;
}

void read_descriptors(Bytes descriptors, ElementaryStream& stream) {
  while (descriptors.size() >= 2) {
    const size_t length = descriptors[1];
    if (descriptors.size() < 2 + length) return;
    const Bytes body = descriptors.subspan(2, length);
    if (descriptors[0] == kDescriptorRegistration && length >= 4 && body[0] == 'O' &&
        body[1] == 'p' && body[2] == 'u' && body[3] == 's') {
      stream.is_opus = true;
    } else if (descriptors[0] == kDescriptorExtension && length >= 2 && body[0] == kExtensionOpus) {
      stream.opus_channels = body[1];
    }
    descriptors = descriptors.subspan(2 + length);
  }
}

}  // namespace

uint32_t section_crc(Bytes section) {
  uint32_t crc = 0xFFFFFFFFU;
  for (uint8_t byte : section) crc = crc << 8 ^ kCrcTable[(crc >> 24 ^ byte) & 0xFF];
  return crc;
}

std::optional<Bytes> SectionAssembler::feed(const PacketView& packet) {
  Bytes payload = packet.payload;
  if (packet.starts_unit) {
    if (payload.empty()) return std::nullopt;
    const size_t pointer = payload[0];
    if (pointer + 1 >= payload.size()) return std::nullopt;
    payload = payload.subspan(pointer + 1);
    drop();
  } else if (section_.empty() || is_whole_) {
    return std::nullopt;
  }
  section_.insert(section_.end(), payload.begin(), payload.end());
  if (section_.size() < 3) return std::nullopt;
  const size_t size = 3 + (read_u16(&section_[1]) & 0x0FFF);
  if (size > kMaxSectionSize || size < 12) {
    section_.clear();
    ++num_bad_;
    return std::nullopt;
  }
  if (section_.size() < size) return std::nullopt;
  const Bytes whole = Bytes(section_).first(size);
  if (section_crc(whole) != 0) {
    section_.clear();
    ++num_bad_;
    return std::nullopt;
  }
  is_whole_ = true;
  return whole;
}

std::optional<uint16_t> parse_pat(Bytes section) {
  if (section[0] != kPatTable) return std::nullopt;
  const Bytes entries = section.subspan(8, section.size() - 12);
  for (size_t i = 0; i + 4 <= entries.size(); i += 4) {
    const bool is_programme = read_u16(&entries[i]) != 0;  // 0 names the network PID
    if (is_programme) return read_u16(&entries[i + 2]) & 0x1FFF;
  }
  return std::nullopt;
}

std::optional<std::vector<ElementaryStream>> parse_pmt(Bytes section) {
  if (section[0] != kPmtTable || section.size() < 16) return std::nullopt;
  const size_t end = section.size() - 4;
  size_t at = 12 + (read_u16(&section[10]) & 0x0FFF);
  std::vector<ElementaryStream> streams;
  while (at + 5 <= end) {
    ElementaryStream stream{.pid = static_cast<uint16_t>(read_u16(&section[at + 1]) & 0x1FFF),
                            .stream_type = section[at]};
    const size_t length = read_u16(&section[at + 3]) & 0x0FFF;
    if (at + 5 + length > end) return std::nullopt;
    read_descriptors(section.subspan(at + 5, length), stream);
    streams.push_back(stream);
    at += 5 + length;
  }
  return streams;
}

std::vector<uint8_t> make_pat(uint16_t pmt_pid) {
  std::vector<uint8_t> out = begin_section(kPatTable, 0);
  append_u16(out, 1);
  append_u16(out, 0xE000U | pmt_pid);
  return end_section(std::move(out));
}

std::vector<uint8_t> make_pmt(uint16_t pcr_pid, uint8_t version,
                              const std::vector<ElementaryStream>& streams) {
  std::vector<uint8_t> out = begin_section(kPmtTable, version);
  append_u16(out, 0xE000U | pcr_pid);
  append_u16(out, 0xF000U);
  for (const ElementaryStream& stream : streams) {
    out.push_back(stream.stream_type);
    append_u16(out, 0xE000U | stream.pid);
    if (stream.is_opus) {
      append_u16(out, 0xF000U | 10);
      out.insert(out.end(), {kDescriptorRegistration, 4, 'O', 'p', 'u', 's'});
      out.insert(out.end(), {kDescriptorExtension, 2, kExtensionOpus, stream.opus_channels});
    } else {
      append_u16(out, 0xF000U);
    }
  }
  return end_section(std::move(out));
}

}  // namespace lpnode::mpegts
