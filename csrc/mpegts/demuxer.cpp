#include "demuxer.h"

#include <algorithm>
#include <string>
#include <utility>

#include "elementary.h"
#include "error.h"

namespace lpnode::mpegts {
namespace {

constexpr size_t kPesFixedHeader = 9;
constexpr size_t kMaxAdtsSize = 8191;

// First position in [from, to) that holds a sync byte with another one a packet later, and, as far
// as the bytes reach, a third.
std::optional<size_t> find_sync(Bytes bytes, size_t from, size_t to) {
  for (size_t at = from; at < to && at + kPacketSize < bytes.size(); ++at) {
    if (bytes[at] != kSyncByte || bytes[at + kPacketSize] != kSyncByte) continue;
    const size_t third = at + 2 * kPacketSize;
    if (third >= bytes.size() || bytes[third] == kSyncByte) return at;
  }
  return std::nullopt;
}

std::optional<Codec> codec_of(const ElementaryStream& stream) {
  switch (stream.stream_type) {
    case kStreamTypeH264:
      return Codec::kH264;
    case kStreamTypeAac:
      return Codec::kAac;
    case kStreamTypePrivate:
      return stream.is_opus ? std::optional(Codec::kOpus) : std::nullopt;
    default:
      return std::nullopt;
  }
}

}  // namespace

Demuxer::Demuxer(size_t max_unit_size) : max_unit_size_(max_unit_size) {
  if (max_unit_size < kPacketSize) {
    throw InvalidArgument("max_unit_size must be at least 188 bytes, got " +
                          std::to_string(max_unit_size));
  }
}

void Demuxer::feed(Bytes data, std::vector<AccessUnit>& units) {
  if (!tail_.empty()) {
    // Two packets' worth is enough for consume() to leave the tail behind.
    const size_t old_size = tail_.size();
    const size_t num_joined = std::min(data.size(), 2 * kPacketSize);
    std::vector<uint8_t> joined = std::exchange(tail_, {});
    joined.insert(joined.end(), data.begin(), data.begin() + static_cast<ptrdiff_t>(num_joined));
    const size_t consumed = consume(joined, units);
    if (num_joined == data.size()) {
      tail_.assign(joined.begin() + static_cast<ptrdiff_t>(consumed), joined.end());
      return;
    }
    data = data.subspan(consumed - old_size);
  }
  const size_t consumed = consume(data, units);
  tail_.assign(data.begin() + static_cast<ptrdiff_t>(consumed), data.end());
}

size_t Demuxer::consume(Bytes bytes, std::vector<AccessUnit>& units) {
  size_t at = 0;
  while (bytes.size() - at >= kPacketSize) {
    if (!is_in_sync_) {
      const size_t last = bytes.size() - kPacketSize;  // cannot be confirmed yet
      const size_t found = find_sync(bytes, at, last).value_or(last);
      counters_.discarded_bytes += found - at;
      at = found;
      if (found == last) break;
      is_in_sync_ = true;
    }
    if (bytes[at] != kSyncByte) {
      is_in_sync_ = false;
      continue;
    }
    const size_t next = at + kPacketSize;
    if (next < bytes.size() && bytes[next] != kSyncByte) {
      // This packet may be cut short by the end of a broken segment: look for the next inside it.
      if (const auto inside = find_sync(bytes, at + 1, next)) {
        counters_.discarded_bytes += *inside - at;
        at = *inside;
        continue;
      }
    }
    on_packet(bytes.subspan(at).first<kPacketSize>(), units);
    at = next;
  }
  return at;
}

void Demuxer::on_packet(std::span<const uint8_t, kPacketSize> bytes,
                        std::vector<AccessUnit>& units) {
  const PacketView packet = parse_packet(bytes);
  // A damaged or scrambled packet is as good as lost; the continuity counter will tell.
  if (packet.has_transport_error || packet.is_scrambled) return;
  if (packet.pid == kPatPid) {
    if (const auto section = pat_.feed(packet)) {
      const auto pid = parse_pat(*section);
      if (pid && pid != pmt_pid_) {
        pmt_pid_ = pid;
        pmt_.drop();
      }
    }
  } else if (packet.pid == pmt_pid_) {
    if (const auto section = pmt_.feed(packet)) on_programme_map(*section, units);
  } else {
    const auto track = std::ranges::find(tracks_, packet.pid, &Track::pid);
    if (track != tracks_.end()) on_track_packet(*track, packet, units);
  }
}

void Demuxer::on_programme_map(Bytes section, std::vector<AccessUnit>& units) {
  if (std::ranges::equal(section, last_pmt_)) return;
  auto streams = parse_pmt(section);
  if (!streams) return;
  last_pmt_.assign(section.begin(), section.end());
  if (map_changes_ > 0 && *streams == streams_) return;
  flush(units);
  streams_ = std::move(*streams);
  ++map_changes_;
  std::vector<Track> tracks;
  bool has_video = false;
  bool has_audio = false;
  for (const ElementaryStream& stream : streams_) {
    const auto codec = codec_of(stream);
    bool& is_taken = codec == Codec::kH264 ? has_video : has_audio;
    if (!codec || is_taken) continue;
    is_taken = true;
    const auto kept = std::ranges::find_if(
        tracks_, [&](const Track& t) { return t.pid == stream.pid && t.codec == *codec; });
    if (kept != tracks_.end()) {
      tracks.push_back(std::move(*kept));
    } else {
      Track& fresh = tracks.emplace_back();
      fresh.pid = stream.pid;
      fresh.codec = *codec;
      fresh.has_pending_discontinuity = map_changes_ > 1;
    }
  }
  tracks_ = std::move(tracks);
}

void Demuxer::on_track_packet(Track& track, const PacketView& packet,
                              std::vector<AccessUnit>& units) {
  if (!packet.has_payload) return;
  const bool is_contiguous = !track.continuity || packet.declares_discontinuity ||
                             packet.continuity == ((*track.continuity + 1) & 0x0F);
  const Bytes last(track.last_payload.data(), track.last_size);
  if (!is_contiguous && packet.continuity == *track.continuity &&
      std::ranges::equal(packet.payload, last)) {
    return;  // a packet may be sent twice (ISO/IEC 13818-1, 2.4.3.3)
  }
  track.continuity = packet.continuity;
  track.last_size = packet.payload.size();
  std::ranges::copy(packet.payload, track.last_payload.begin());
  if (!is_contiguous) ++counters_.num_continuity_errors;

  if (packet.starts_unit) {
    if (track.is_open && track.stated_size == 0) {
      finish(track, units);
    } else if (track.is_open) {
      abandon(track);
    }
    track.has_pending_discontinuity |= !is_contiguous;
    track.is_open = true;
    track.stated_size = 0;
    track.is_random_access = packet.is_random_access;
    track.pes.reserve(std::min(track.usual_size + track.usual_size / 4, max_unit_size_));
  } else if (!track.is_open) {
    // See Note [End of an access unit].
    if (track.ended_at_stuffing && is_contiguous) stuffing_ends_unit_ = false;
    track.ended_at_stuffing = false;
    track.has_pending_discontinuity = true;
    return;
  } else if (!is_contiguous) {
    abandon(track);
    return;
  }
  track.ended_at_stuffing = false;
  if (track.pes.size() + packet.payload.size() > max_unit_size_) {
    abandon(track);
    return;
  }
  track.pes.insert(track.pes.end(), packet.payload.begin(), packet.payload.end());
  if (track.stated_size == 0 && track.pes.size() >= 6) {
    const size_t length = read_u16(&track.pes[4]);
    if (length != 0) track.stated_size = 6 + length;
  }
  if (track.stated_size != 0) {
    if (track.pes.size() >= track.stated_size) {
      track.pes.resize(track.stated_size);
      finish(track, units);
    }
  } else if (packet.is_stuffed && stuffing_ends_unit_) {
    finish(track, units);
    track.ended_at_stuffing = true;
  }
}

void Demuxer::abandon(Track& track) {
  track.is_open = false;
  track.pes.clear();
  track.has_pending_discontinuity = true;
  ++counters_.num_lost_units;
}

void Demuxer::flush(std::vector<AccessUnit>& units) {
  for (Track& track : tracks_) {
    if (track.is_open && track.stated_size == 0) finish(track, units);
  }
}

void Demuxer::finish(Track& track, std::vector<AccessUnit>& units) {
  const Bytes pes(track.pes);
  if (pes.size() < kPesFixedHeader || pes[0] != 0 || pes[1] != 0 || pes[2] != 1) {
    return abandon(track);
  }
  const size_t begin = kPesFixedHeader + pes[8];
  const bool has_pts = (pes[7] & 0x80) != 0 && pes[8] >= 5;
  const bool has_dts = (pes[7] & 0x40) != 0 && pes[8] >= 10 && has_pts;
  // Only the first PES of a picture need carry a time stamp; without any there is nothing to show.
  if (begin >= pes.size() || (!has_pts && !track.last_pts_ticks)) return abandon(track);
  const int64_t pts_ticks = has_pts ? unwrap(read_timestamp(&pes[9])) : *track.last_pts_ticks;
  const int64_t dts_ticks =
      has_dts ? unwrap_timestamp(read_timestamp(&pes[14]), pts_ticks) : pts_ticks;
  track.last_pts_ticks = pts_ticks;
  track.is_open = false;
  switch (track.codec) {
    case Codec::kH264: {
      track.usual_size = pes.size();
      const H264Unit h264 = inspect_h264(pes.subspan(begin));
      AccessUnit unit = begin_unit(track, pts_ticks, dts_ticks);
      // The indicator alone is not trusted: some muxers set it on every picture.
      unit.is_random_access = h264.is_idr || h264.has_recovery_point ||
                              (track.is_random_access && h264.has_parameter_sets);
      unit.storage = std::move(track.pes);
      unit.begin = begin;
      units.push_back(std::move(unit));
      break;
    }
    case Codec::kOpus:
      emit_opus(track, pes.subspan(begin), pts_ticks, units);
      break;
    case Codec::kAac:
      emit_adts(track, pes.subspan(begin), pts_ticks, units);
      break;
  }
  track.pes.clear();
}

AccessUnit Demuxer::begin_unit(Track& track, int64_t pts_ticks, int64_t dts_ticks) const {
  AccessUnit unit;
  unit.codec = track.codec;
  unit.pts_ticks = pts_ticks;
  unit.dts_ticks = dts_ticks;
  unit.is_random_access = true;
  unit.has_discontinuity = std::exchange(track.has_pending_discontinuity, false);
  return unit;
}

void Demuxer::emit_opus(Track& track, Bytes payload, int64_t pts_ticks,
                        std::vector<AccessUnit>& units) {
  while (!payload.empty()) {
    const auto control = parse_opus_control(payload);
    if (!control || control->packet_size == 0) {
      ++counters_.num_lost_units;
      track.has_pending_discontinuity = true;
      return;
    }
    const Bytes packet = payload.subspan(control->header_size, control->packet_size);
    AccessUnit unit = begin_unit(track, pts_ticks, pts_ticks);
    unit.storage.assign(packet.begin(), packet.end());
    units.push_back(std::move(unit));
    pts_ticks += opus_duration_ticks(packet);
    payload = payload.subspan(control->header_size + control->packet_size);
  }
}

// ADTS frames need not be aligned with PES packets; the time stamp belongs to the first frame that
// begins in the PES (ISO/IEC 13818-1, 2.4.3.7).
void Demuxer::emit_adts(Track& track, Bytes payload, int64_t pts_ticks,
                        std::vector<AccessUnit>& units) {
  if (track.has_pending_discontinuity) track.partial_adts.clear();
  const size_t num_carried = track.partial_adts.size();
  std::vector<uint8_t> joined = std::exchange(track.partial_adts, {});
  joined.insert(joined.end(), payload.begin(), payload.end());
  const Bytes bytes(joined);
  int64_t base_ticks = track.next_adts_ticks;
  int64_t num_samples = 0;
  bool is_carried = num_carried > 0;
  size_t at = 0;
  while (at < bytes.size()) {
    const auto header = parse_adts(bytes.subspan(at));
    if (!header && bytes.size() - at < 7) break;
    if (!header) {
      ++at;
      continue;
    }
    if (header->frame_size > bytes.size() - at) break;
    if (at >= num_carried && (is_carried || num_samples == 0)) {
      base_ticks = pts_ticks;
      num_samples = 0;
      is_carried = false;
    }
    const int64_t frame_ticks =
        base_ticks + num_samples * kTicksPerSecond / header->sample_rate;
    AccessUnit unit = begin_unit(track, frame_ticks, frame_ticks);
    const Bytes frame = bytes.subspan(at, header->frame_size);
    unit.storage.assign(frame.begin(), frame.end());
    units.push_back(std::move(unit));
    num_samples += 1024;
    at += header->frame_size;
    track.next_adts_ticks = base_ticks + num_samples * kTicksPerSecond / header->sample_rate;
  }
  // The frame that is cut off begins in this PES, unless one before it did.
  if (num_samples == 0 && at >= num_carried) track.next_adts_ticks = pts_ticks;
  const Bytes rest = bytes.subspan(std::min(at, bytes.size()));
  if (rest.size() <= kMaxAdtsSize) track.partial_adts.assign(rest.begin(), rest.end());
}

int64_t Demuxer::unwrap(int64_t wrapped) {
  reference_ticks_ = unwrap_timestamp(wrapped, reference_ticks_.value_or(wrapped));
  return *reference_ticks_;
}

DemuxerCounters Demuxer::counters() const noexcept {
  DemuxerCounters counters = counters_;
  counters.num_bad_sections = pat_.num_bad() + pmt_.num_bad();
  return counters;
}

}  // namespace lpnode::mpegts
