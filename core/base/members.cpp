// SPDX-License-Identifier: Apache-2.0
#include "core/base/members.h"

#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cstring>

namespace llmctl {
namespace {

constexpr size_t npos = std::string_view::npos;

// One packed stream, given bytes of `raw` from a place on.
struct Stream {
  z_stream z{};
  ZSTD_DStream* frame = nullptr;
  bool gzip;
  bool ended = false;
  std::string fault;

  explicit Stream(bool is_gzip) : gzip(is_gzip) {
    if (gzip)
      check(inflateInit2(&z, 15 + 16) == Z_OK, Code::memory, "[file] gzip: cannot start");
    else
      frame = ZSTD_createDStream();
    check(gzip || frame, Code::memory, "[file] zstd: cannot start");
  }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream() {
    if (gzip) inflateEnd(&z);
    if (frame) ZSTD_freeDStream(frame);
  }
  void reset() {
    gzip ? static_cast<void>(inflateReset(&z))
         : static_cast<void>(ZSTD_DCtx_reset(frame, ZSTD_reset_session_only));
    ended = false;
    fault.clear();
  }
  // Moves `at` over what it eats; 0 when ended or at fault.
  size_t read(std::string_view raw, size_t& at, char* out, size_t n) {
    while (!ended && fault.empty()) {
      const size_t made = gzip ? gzip_read(raw, at, out, n) : zstd_read(raw, at, out, n);
      if (made > 0) return made;
      if (!ended && fault.empty() && at == raw.size()) fault = "ends too early";
    }
    return 0;
  }
  size_t gzip_read(std::string_view raw, size_t& at, char* out, size_t n) {
    constexpr size_t kMost = size_t{1} << 30;
    const size_t have = std::min(raw.size() - at, kMost), room = std::min(n, kMost);
    z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(raw.data() + at));
    z.avail_in = static_cast<uInt>(have);
    z.next_out = reinterpret_cast<Bytef*>(out);
    z.avail_out = static_cast<uInt>(room);
    const int rc = inflate(&z, Z_NO_FLUSH);
    at += have - z.avail_in;
    if (rc == Z_STREAM_END)
      ended = true;
    else if (rc != Z_OK && rc != Z_BUF_ERROR)
      fault = std::string("damaged gzip data: ") + (z.msg ? z.msg : "no reason given");
    return room - z.avail_out;
  }
  size_t zstd_read(std::string_view raw, size_t& at, char* out, size_t n) {
    ZSTD_inBuffer in{raw.data(), raw.size(), at};
    ZSTD_outBuffer to{out, n, 0};
    const size_t rc = ZSTD_decompressStream(frame, &to, &in);
    at = in.pos;
    if (ZSTD_isError(rc))
      fault = std::string("damaged zstd data: ") + ZSTD_getErrorName(rc);
    else
      ended = rc == 0;
    return to.pos;
  }
};

}  // namespace

Packing packing_of(const fs::path& file) {
  const std::string ending = file.extension().string();
  return ending == ".gz" ? Packing::gzip : ending == ".zst" ? Packing::zstd : Packing::none;
}

struct MemberReader::State {
  std::string_view raw;
  Packing packing;
  std::unique_ptr<Stream> stream;
  uint64_t begin = 0, at = 0, lost = 0, searched = 0;
  bool open = false;
  std::string damage;
  char first = 0;  // the byte that proved a member behind damage
  bool has_first = false;

  bool starts_here(size_t i) const {
    const std::string_view head = raw.substr(i, 4);
    if (packing == Packing::zstd)
      return head == "\x28\xb5\x2f\xfd" || (head.size() == 4 && head.substr(1) == "\x2a\x4d\x18" &&
                                            (static_cast<unsigned char>(head[0]) & 0xf0) == 0x50);
    return head.size() == 4 && head.substr(0, 3) == "\x1f\x8b\x08" && !(head[3] & 0xe0);
  }

  // The next place from `from` on where the magic stands and a first byte unpacks.
  bool search(size_t from) {
    const std::string_view magic = packing == Packing::zstd ? "\xb5\x2f\xfd" : "\x1f\x8b\x08";
    const size_t shift = packing == Packing::zstd ? 1 : 0;
    for (size_t i = raw.find(magic, from + shift); i != npos; i = raw.find(magic, i + 1)) {
      if (!starts_here(i - shift)) continue;
      stream->reset();
      size_t place = i - shift;
      if (stream->read(raw, place, &first, 1) == 0) continue;
      begin = i - shift;
      at = place;
      has_first = open = true;
      return true;
    }
    return false;
  }

  bool next_packed() {
    if (!stream) stream = std::make_unique<Stream>(packing == Packing::gzip);
    if (open) drain();
    uint64_t from = at;
    if (!damage.empty()) {
      // What a damaged member ran over may hold whole ones; looking there again has a price.
      searched += at - begin;
      from = searched > (uint64_t{64} << 20) + 4 * at ? std::max(at, begin + 1) : begin + 1;
      damage.clear();
    } else if (at < raw.size() && starts_here(at)) {
      begin = at;
      stream->reset();
      open = true;
      return true;
    }
    open = has_first = false;
    if (from >= raw.size()) return false;
    if (search(from)) {
      if (begin > from) lost += begin - from;
      return true;
    }
    // zeros behind the last member are padding, as gzip has it
    if (raw.find_first_not_of('\0', from) != npos) lost += raw.size() - from;
    begin = at = raw.size();
    return false;
  }

  size_t read(char* out, size_t n) {
    if (!open || n == 0) return 0;
    if (packing == Packing::none) {
      n = std::min<size_t>(n, raw.size() - at);
      std::memcpy(out, raw.data() + at, n);
      at += n;
      return n;
    }
    if (has_first) {
      has_first = false;
      *out = first;
      return 1;
    }
    const size_t made = stream->read(raw, at, out, n);
    if (made == 0) {
      open = false;
      damage = stream->fault;
    }
    return made;
  }

  void drain() {
    char scratch[4096];
    while (read(scratch, sizeof scratch) > 0) {
    }
  }
};

MemberReader::MemberReader(std::string_view raw, Packing packing) : state_(std::make_unique<State>()) {
  state_->raw = raw;
  state_->packing = packing;
}
MemberReader::~MemberReader() = default;

bool MemberReader::next() {
  State& s = *state_;
  if (s.packing != Packing::none) return s.next_packed();
  const bool first = !s.open;
  s.open = true;
  return first && !s.raw.empty();
}
size_t MemberReader::read(char* out, size_t n) {
  return state_->read(out, n);
}
uint64_t MemberReader::begin() const {
  return state_->begin;
}
uint64_t MemberReader::end() const {
  return state_->at;
}
const std::string& MemberReader::damage() const {
  return state_->damage;
}
uint64_t MemberReader::lost() const {
  return state_->lost;
}

Unpacked inflate_bytes(std::string_view packed, uint64_t max_bytes, std::string& out) {
  // gzip and zlib say what they are; raw deflate does not, so it is tried when zlib's header is not there
  const bool head =
      packed.size() >= 2 &&
      (static_cast<unsigned char>(packed[0]) == 0x1f ||
       ((packed[0] & 0x0f) == 8 &&
        (static_cast<unsigned char>(packed[0]) * 256u + static_cast<unsigned char>(packed[1])) % 31 == 0));
  z_stream z{};
  check(inflateInit2(&z, head ? 15 + 32 : -15) == Z_OK, Code::memory, "[file] inflate: cannot start");
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
  z.avail_in = static_cast<uInt>(std::min<size_t>(packed.size(), size_t{1} << 31));
  std::vector<char> piece(size_t{1} << 16);
  const size_t start = out.size();
  Unpacked state = Unpacked::cut;
  for (;;) {
    z.next_out = reinterpret_cast<Bytef*>(piece.data());
    z.avail_out = static_cast<uInt>(piece.size());
    const int rc = inflate(&z, Z_NO_FLUSH);
    const size_t made = piece.size() - z.avail_out;
    const size_t room = max_bytes - std::min<uint64_t>(max_bytes, out.size() - start);
    out.append(piece.data(), std::min(made, room));
    if (made > room) state = Unpacked::too_large;
    if (rc == Z_STREAM_END && made <= room) state = Unpacked::whole;
    if (rc != Z_OK && rc != Z_STREAM_END && rc != Z_BUF_ERROR) state = Unpacked::damaged;
    if (rc != Z_OK || made > room || made == 0) break;
  }
  inflateEnd(&z);
  return state;
}

}  // namespace llmctl
