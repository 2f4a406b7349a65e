// SPDX-License-Identifier: Apache-2.0
#include "data/dedup/minhash_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace llmctl {

MinhashHeader header_of(const MinhashOptions& options) {
  MinhashHeader h;
  h.seed = options.seed;
  h.unit = static_cast<uint32_t>(options.unit);
  h.n = options.n, h.bands = options.bands, h.rows = options.rows;
  h.digits_to_zero = options.digits_to_zero;
  return h;
}

uint64_t entry_bytes(const MinhashEntry& entry, uint32_t bands) {
  return sizeof(MinhashEntry) + 8 * uint64_t{bands} + (4 * uint64_t{entry.count} + 7) / 8 * 8;
}

std::string entry_text(MinhashDocument& document) {
  MinhashEntry& entry = document.entry;
  entry.count = static_cast<uint32_t>(document.shingles.size());
  entry.check = 0;
  std::string out(entry_bytes(entry, static_cast<uint32_t>(document.keys.size())), '\0');
  std::memcpy(out.data(), &entry, sizeof entry);
  std::memcpy(out.data() + sizeof entry, document.keys.data(), 8 * document.keys.size());
  std::memcpy(out.data() + sizeof entry + 8 * document.keys.size(), document.shingles.data(),
              4 * document.shingles.size());
  entry.check = digest_of(out).low;
  std::memcpy(out.data() + offsetof(MinhashEntry, check), &entry.check, sizeof entry.check);
  return out;
}

struct MinhashFile::State {
  fs::path path;
  MinhashHeader header;
  MinhashEnd end;
  uint64_t size = 0, at = sizeof(MinhashHeader), buffered_at = 0;
  std::string buffer;  // of next()
  Digest digest;

  // Up to n bytes at `offset`; fewer only at the end of the file. Opened each time: a corpus may have more
  // files than a process may hold open.
  uint64_t take(uint64_t offset, void* out, uint64_t n) const {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    check(fd >= 0, Code::io, "[minhash] ", path.string(), ": ", std::strerror(errno));
    uint64_t done = 0;
    ssize_t got = 1;
    while (done < n && (got = ::pread(fd, static_cast<char*>(out) + done, n - done,
                                      static_cast<off_t>(offset + done))) != 0) {
      if (got > 0) done += static_cast<uint64_t>(got);
      if (got < 0 && errno != EINTR) break;
    }
    const int failed = got < 0 ? errno : 0;
    ::close(fd);
    check(failed == 0, Code::io, "[minhash] ", path.string(), ": ", std::strerror(failed));
    return done;
  }
  [[noreturn]] void refuse(const std::string& why) const {
    throw Error(Code::input, "[minhash] " + path.string() + ": " + why + "; remove it and run again");
  }
  // The entry whose first `have` bytes stand at `bytes`; returns false when more are needed (entry_bytes()).
  bool parse(const char* bytes, uint64_t have, uint64_t offset, MinhashDocument& out) const {
    std::memcpy(&out.entry, bytes, sizeof out.entry);
    const uint64_t all = entry_bytes(out.entry, header.bands);
    if (all > size - sizeof(MinhashEnd) - offset)
      refuse("the entry at byte " + std::to_string(offset) + " is damaged");
    if (all > have) return false;
    const char* keys = bytes + sizeof out.entry;
    out.keys.resize(header.bands);
    std::memcpy(out.keys.data(), keys, 8 * out.keys.size());
    out.shingles.resize(out.entry.count);
    std::memcpy(out.shingles.data(), keys + 8 * out.keys.size(), 4 * out.shingles.size());
    const uint64_t said = out.entry.check;
    std::string copy(bytes, all);
    std::memset(copy.data() + offsetof(MinhashEntry, check), 0, sizeof said);
    if (digest_of(copy).low != said)
      refuse("the entry at byte " + std::to_string(offset) + " is damaged (checksum)");
    return true;
  }
};

Digest chained(const Digest& digest, uint64_t word) {
  const uint64_t words[] = {digest.low, digest.high, word};
  return digest_of(words, sizeof words);
}

MinhashFile::MinhashFile(const fs::path& path, const MinhashOptions& options) : state_(new State) {
  State& s = *state_;
  s.path = path;
  s.size = FileMap(path).size();  // says what is wrong with the path
  if (s.size < sizeof(MinhashHeader) + sizeof(MinhashEnd)) s.refuse("it is too short");
  s.take(0, &s.header, sizeof s.header);
  s.take(s.size - sizeof s.end, &s.end, sizeof s.end);
  const MinhashHeader want = header_of(options);
  if (std::memcmp(s.header.magic, want.magic, sizeof want.magic) != 0)
    s.refuse("it is no file of MinHash signatures");
  check(s.header == want, Code::input, "[minhash] ", path.string(), ": written with other options (",
        s.header.bands, " x ", s.header.rows, ", shingles of ", s.header.n, ", seed ", s.header.seed,
        "; now ", want.bands, " x ", want.rows, ", ", want.n, ", ", want.seed, "); remove it and run again");
  if (std::memcmp(s.end.magic, MinhashEnd().magic, sizeof s.end.magic) != 0) s.refuse("it is cut");
  s.digest = digest_of(&s.header, sizeof s.header);
}
MinhashFile::~MinhashFile() = default;

const MinhashEnd& MinhashFile::end() const {
  return state_->end;
}
uint64_t MinhashFile::bytes() const {
  return state_->size;
}

void MinhashFile::read_at(uint64_t offset, MinhashDocument& out) const {
  const State& s = *state_;
  constexpr uint64_t kGuess = uint64_t{16} << 10;
  std::string bytes(std::min(kGuess, s.size - offset), '\0');
  uint64_t have = s.take(offset, bytes.data(), bytes.size());
  if (have < sizeof(MinhashEntry)) s.refuse("it is shorter than it was");
  if (s.parse(bytes.data(), have, offset, out)) return;
  bytes.resize(entry_bytes(out.entry, s.header.bands));
  have += s.take(offset + have, bytes.data() + have, bytes.size() - have);
  if (have < bytes.size() || !s.parse(bytes.data(), have, offset, out)) s.refuse("it is shorter than it was");
}

bool MinhashFile::next(MinhashDocument& out, uint64_t& offset) {
  State& s = *state_;
  offset = s.at;
  if (s.at + sizeof(MinhashEnd) == s.size) {
    if (chained(chained(s.digest, s.end.documents), s.end.empty) != s.end.digest)
      s.refuse("its entries are not those that were written (digest)");
    return false;
  }
  if (s.at + sizeof(MinhashEntry) + sizeof(MinhashEnd) > s.size) s.refuse("it is damaged near its end");
  const auto have = [&] { return s.buffered_at + s.buffer.size() - s.at; };
  const auto fill = [&](uint64_t n) {
    s.buffer.resize(std::min(n, s.size - s.at));
    s.buffer.resize(s.take(s.at, s.buffer.data(), s.buffer.size()));
    s.buffered_at = s.at;
  };
  constexpr uint64_t kAhead = uint64_t{256} << 10;
  if (s.at >= s.buffered_at + s.buffer.size() || have() < sizeof(MinhashEntry)) fill(kAhead);
  if (have() < sizeof(MinhashEntry)) s.refuse("it is shorter than it was");
  if (!s.parse(s.buffer.data() + (s.at - s.buffered_at), have(), s.at, out)) {
    fill(std::max(kAhead, entry_bytes(out.entry, s.header.bands)));
    if (have() < sizeof(MinhashEntry) || !s.parse(s.buffer.data(), have(), s.at, out))
      s.refuse("it is shorter than it was");
  }
  s.digest = chained(s.digest, out.entry.check);
  s.at += entry_bytes(out.entry, s.header.bands);
  return true;
}

}  // namespace llmctl
