// An incremental MPEG-TS demultiplexer for live H.264 with AAC or Opus.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "packet.h"
#include "section.h"

namespace lpnode::mpegts {

enum class Codec : uint8_t { kH264, kAac, kOpus };

// One coded picture (Annex B), ADTS frame or Opus packet. Owns its bytes.
struct AccessUnit {
  Codec codec = Codec::kH264;
  int64_t pts_ticks = 0;  // 90 kHz, unwrapped past 33 bits; all tracks on one time line
  int64_t dts_ticks = 0;
  bool is_random_access = false;   // decoding may begin here
  bool has_discontinuity = false;  // data of this track was lost, or restarted, just before
  std::vector<uint8_t> storage;
  size_t begin = 0;  // the PES header stays in front of the payload, so that nothing is moved

  [[nodiscard]] Bytes payload() const { return Bytes(storage).subspan(begin); }
};

struct DemuxerCounters {
  uint64_t num_continuity_errors = 0;
  uint64_t num_bad_sections = 0;
  uint64_t num_lost_units = 0;     // abandoned: incomplete, oversized or malformed
  uint64_t discarded_bytes = 0;    // between packets while looking for the sync byte
};

// Note [End of an access unit]
// A video PES usually does not state its length, and waiting for the start of the next one costs a
// frame time. Muxers fill the last packet of a PES with stuffing, so a stuffed packet is taken for
// the end. If a continuation contradicts that, the shortcut is switched off for this stream.
// A PES that fills its last packet exactly waits for the next start or for flush().
//
// Note [Copies of coded data]
// One copy is made here: packet payloads into the storage of their access unit, which the
// caller then owns.
class Demuxer {
 public:
  // max_unit_size: bytes after which a PES is given up. Memory is bounded by three of them.
  explicit Demuxer(size_t max_unit_size);

  // Takes the next bytes of the stream, split anywhere, and appends the units they complete.
  // Never throws on bad input: what cannot be used is counted and skipped.
  void feed(Bytes data, std::vector<AccessUnit>& units);

  // The input pauses or ends at a packet boundary: units of unstated length are complete.
  void flush(std::vector<AccessUnit>& units);

  // The streams of the current programme map; `map_changes` counts its changes, 0 before the first.
  [[nodiscard]] const std::vector<ElementaryStream>& streams() const noexcept { return streams_; }
  [[nodiscard]] uint64_t map_changes() const noexcept { return map_changes_; }
  [[nodiscard]] DemuxerCounters counters() const noexcept;

 private:
  struct Track {
    uint16_t pid = kNullPid;
    Codec codec = Codec::kH264;
    std::optional<uint8_t> continuity;
    size_t last_size = 0;  // of last_payload, to recognise a repeated packet
    std::array<uint8_t, kPacketSize> last_payload{};
    bool is_open = false;
    bool ended_at_stuffing = false;
    bool has_pending_discontinuity = false;
    bool is_random_access = false;  // the packet that began the PES says so
    size_t stated_size = 0;         // whole PES in bytes; 0: not stated
    size_t usual_size = 4096;
    std::vector<uint8_t> pes;
    std::vector<uint8_t> partial_adts;
    int64_t next_adts_ticks = 0;
    std::optional<int64_t> last_pts_ticks;
  };

  size_t consume(Bytes bytes, std::vector<AccessUnit>& units);
  void on_packet(std::span<const uint8_t, kPacketSize> packet, std::vector<AccessUnit>& units);
  void on_programme_map(Bytes section, std::vector<AccessUnit>& units);
  void on_track_packet(Track& track, const PacketView& packet, std::vector<AccessUnit>& units);
  void abandon(Track& track);
  void finish(Track& track, std::vector<AccessUnit>& units);
  void emit_opus(Track& track, Bytes payload, int64_t pts_ticks, std::vector<AccessUnit>& units);
  void emit_adts(Track& track, Bytes payload, int64_t pts_ticks, std::vector<AccessUnit>& units);
  AccessUnit begin_unit(Track& track, int64_t pts_ticks, int64_t dts_ticks) const;
  int64_t unwrap(int64_t wrapped);

  size_t max_unit_size_;
  std::vector<uint8_t> tail_;  // bytes not yet consumed; at most two packets
  bool is_in_sync_ = true;
  bool stuffing_ends_unit_ = true;
  std::optional<uint16_t> pmt_pid_;
  SectionAssembler pat_;
  SectionAssembler pmt_;
  std::vector<uint8_t> last_pmt_;
  std::vector<ElementaryStream> streams_;
  std::vector<Track> tracks_;
  std::optional<int64_t> reference_ticks_;
  uint64_t map_changes_ = 0;
  DemuxerCounters counters_;
};

}  // namespace lpnode::mpegts
