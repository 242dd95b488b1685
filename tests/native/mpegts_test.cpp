// The demuxer and muxer in their own language, so that sanitizers see every access: round trips at
// every size and split, and noise.
#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

#include "check.h"
#include "mpegts/demuxer.h"
#include "mpegts/elementary.h"
#include "mpegts/muxer.h"
#include "mpegts/section.h"

namespace {

using namespace lpnode::mpegts;

std::vector<uint8_t> picture(size_t size, bool is_idr) {
  std::vector<uint8_t> annexb(size, 0x55);
  const uint8_t start[] = {0, 0, 0, 1, 0x09, 0xF0, 0, 0, 1, 
                           static_cast<uint8_t>(is_idr ? 0x65 : 0x41)};
  std::copy(std::begin(start), std::end(start), annexb.begin());
  return annexb;
}

void append(std::vector<uint8_t>& out, Muxer& muxer, const PesPlan& plan) {
  const size_t begin = out.size();
  out.resize(begin + plan.output_size);
  muxer.write(plan, WritableBytes(out).subspan(begin));
}

std::vector<AccessUnit> read(const std::vector<uint8_t>& stream, size_t step) {
  Demuxer demuxer(1 << 20);
  std::vector<AccessUnit> units;
  for (size_t at = 0; at < stream.size(); at += step) {
    // A copy of its own, so that a sanitizer notices a read past the piece.
    const size_t size = std::min(step, stream.size() - at);
    const std::vector<uint8_t> piece(&stream[at], &stream[at] + size);
    demuxer.feed(piece, units);
  }
  demuxer.flush(units);
  return units;
}

void every_size_survives_the_round_trip() {
  for (size_t size = 10; size < 70'000; size += size < 800 ? 1 : 977) {
    Muxer muxer(true, 1);
    std::vector<uint8_t> stream;
    const auto video = picture(size, true);
    const std::vector<uint8_t> sound(std::min<size_t>(size, kMaxOpusPacket), 0xF8);
    append(stream, muxer, muxer.plan_video(9000, 6000, video, true));
    append(stream, muxer, muxer.plan_audio(9100, sound));
    const auto units = read(stream, 1316);
    CHECK(units.size() == 2);
    if (units.size() != 2) return;
    CHECK(units[0].pts_ticks == 9000 && units[0].dts_ticks == 6000);
    CHECK(units[0].is_random_access && !units[0].has_discontinuity);
    CHECK(std::ranges::equal(units[0].payload().first(size), video));
    CHECK(std::ranges::equal(units[1].payload(), sound));
  }
}

void every_split_gives_the_same_units() {
  Muxer muxer(true, 1);
  std::vector<uint8_t> stream;
  for (int n = 0; n < 20; ++n) {
    const bool is_key = n % 5 == 0;
    const auto video = picture(400 + n * 37, is_key);
    append(stream, muxer, muxer.plan_video(n * 3000, n * 3000, video, is_key));
  }
  const size_t num_units = read(stream, stream.size()).size();
  CHECK(num_units == 20);
  for (size_t step = 1; step < 600; ++step) CHECK(read(stream, step).size() == num_units);
}

void noise_is_survived() {
  std::mt19937 random(1);
  Muxer muxer(true, 2);
  std::vector<uint8_t> clean;
  for (int n = 0; n < 40; ++n) {
    const bool is_key = n % 8 == 0;
    const auto video = picture(200 + random() % 2000, is_key);
    const std::vector<uint8_t> sound(1 + random() % 600, 0xFC);
    append(clean, muxer, muxer.plan_video(n * 3000, n * 3000, video, is_key));
    append(clean, muxer, muxer.plan_audio(n * 3000, sound));
  }
  for (int round = 0; round < 300; ++round) {
    std::vector<uint8_t> stream = clean;
    for (unsigned i = random() % 80; i > 0; --i) {
      const auto at = static_cast<ptrdiff_t>(random() % (stream.size() - 600));
      if (random() % 3 == 0) {
        const auto end = at + static_cast<ptrdiff_t>(random() % 500);
        stream.erase(stream.begin() + at, stream.begin() + end);
      } else {
        stream[static_cast<size_t>(at)] = static_cast<uint8_t>(random());
      }
    }
    for (const AccessUnit& unit : read(stream, 1 + random() % 3000)) {
      CHECK(!unit.payload().empty());
      CHECK(unit.payload().size() <= 1 << 20);
    }
  }
}

void time_stamps_are_taken_modulo_2_to_the_33() {
  uint8_t bytes[5];
  for (int64_t ticks : {int64_t{0}, int64_t{1}, kTimestampModulus - 1, int64_t{0x155555555}}) {
    write_timestamp(bytes, 2, ticks);
    CHECK(read_timestamp(bytes) == ticks);
  }
  CHECK(unwrap_timestamp(5, kTimestampModulus - 5) == kTimestampModulus + 5);
  CHECK(unwrap_timestamp(kTimestampModulus - 5, 5) == -5);
  CHECK(unwrap_timestamp(1000, 5'000'000) == 1000);
}

void tables_check_out() {
  const auto pat = make_pat(kPmtPid);
  CHECK(section_crc(pat) == 0);
  CHECK(parse_pat(pat) == kPmtPid);
  const std::vector<ElementaryStream> streams{
      {.pid = kVideoPid, .stream_type = kStreamTypeH264},
      {.pid = kAudioPid, .stream_type = kStreamTypePrivate, .is_opus = true, .opus_channels = 1}};
  CHECK(parse_pmt(make_pmt(kVideoPid, 3, streams)) == streams);
}

}  // namespace

int main() {
  every_size_survives_the_round_trip();
  every_split_gives_the_same_units();
  noise_is_survived();
  time_stamps_are_taken_modulo_2_to_the_33();
  tables_check_out();
  return lpnode::test::finish();
}
