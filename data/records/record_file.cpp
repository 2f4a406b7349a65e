// SPDX-License-Identifier: Apache-2.0
#include "data/records/record_file.h"

#include <fcntl.h>
#include <unistd.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace llmctl {
namespace {

constexpr char kMagic[8] = "LLMREC1";  // with its closing zero
constexpr size_t kBlock = size_t{1} << 20;
constexpr uint64_t kMostUnpacked = uint64_t{1} << 36;

struct BlockEntry {
  uint64_t offset, bytes, unpacked, first_place, first_id, last_id, checksum;
};
struct Tail {
  uint64_t index, blocks, records, digest_low, digest_high, checksum;
  char magic[8];
};

template <class T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void put_text(std::string& out, const std::string& text) {
  check(text.size() < (uint64_t{1} << 32), Code::input, "[records] a string of ", text.size(),
        " bytes, fewer than 2^32 can be kept");
  put(out, static_cast<uint32_t>(text.size()));
  out += text;
}

void put_record(std::string& out, const Record& r) {
  put(out, r.number);
  put(out, r.offset);
  put(out, r.length);
  put(out, r.file);
  put(out, static_cast<uint8_t>(r.kind));
  for (const std::string* s : {&r.text, &r.url, &r.date, &r.licence, &r.source, &r.language})
    put_text(out, *s);
}

// What take_* find missing is said by the caller, who knows the file.
struct Cursor {
  const char *at, *end;
  template <class T>
  bool take(T& value) {
    if (static_cast<size_t>(end - at) < sizeof value) return false;
    std::memcpy(&value, at, sizeof value);
    at += sizeof value;
    return true;
  }
  bool take_text(std::string& text) {
    uint32_t n = 0;
    if (!take(n) || static_cast<size_t>(end - at) < n) return false;
    text.assign(at, n);
    at += n;
    return true;
  }
  bool take_record(Record& r) {
    uint8_t kind = 0;
    if (!take(r.number) || !take(r.offset) || !take(r.length) || !take(r.file) || !take(kind)) return false;
    if (kind > static_cast<uint8_t>(RecordKind::html)) return false;
    r.kind = static_cast<RecordKind>(kind);
    for (std::string* s : {&r.text, &r.url, &r.date, &r.licence, &r.source, &r.language})
      if (!take_text(*s)) return false;
    return true;
  }
};

}  // namespace

// ---------------------------------------------------------------- writer

struct RecordFileWriter::State {
  OutputFile out;
  std::string block, packed;
  std::vector<BlockEntry> index;
  uint64_t records = 0, text = 0, first_place = 0, first_id = 0, last_id = 0;
  Digest sum;
  std::unique_ptr<ZSTD_CCtx, size_t (*)(ZSTD_CCtx*)> zstd{ZSTD_createCCtx(), ZSTD_freeCCtx};

  State(const fs::path& path, bool overwrite) : out(path, overwrite) { out.write(kMagic, sizeof kMagic); }

  void flush() {
    if (block.empty()) return;
    packed.resize(ZSTD_compressBound(block.size()));
    const size_t n =
        ZSTD_compressCCtx(zstd.get(), packed.data(), packed.size(), block.data(), block.size(), 1);
    check(!ZSTD_isError(n), Code::bug, "[records] zstd: ", ZSTD_getErrorName(n));
    index.push_back(
        {out.written(), n, block.size(), first_place, first_id, last_id, digest_of(packed.data(), n).low});
    out.write(packed.data(), n);
    Digest term = digest_of(block);
    term.low ^= first_place;  // order matters to the sum
    sum += digest_of(term.hex());
    block.clear();
  }
};

RecordFileWriter::RecordFileWriter(const fs::path& path, bool overwrite)
    : state_(std::make_unique<State>(path, overwrite)) {}
RecordFileWriter::~RecordFileWriter() = default;
uint64_t RecordFileWriter::records() const {
  return state_->records;
}
uint64_t RecordFileWriter::bytes() const {
  return state_->text;
}

void RecordFileWriter::add(const Record& record) {
  State& s = *state_;
  if (s.block.empty()) {
    s.first_place = s.records;
    s.first_id = record.id();
  }
  put_record(s.block, record);
  s.last_id = record.id();
  s.text += record.text.size();
  ++s.records;
  if (s.block.size() >= kBlock) s.flush();
}

Digest RecordFileWriter::commit() {
  State& s = *state_;
  s.flush();
  const uint64_t at = s.out.written();
  std::string index(reinterpret_cast<const char*>(s.index.data()), s.index.size() * sizeof(BlockEntry));
  Tail tail{at, s.index.size(), s.records, s.sum.low, s.sum.high, 0, {}};
  std::memcpy(tail.magic, kMagic, sizeof kMagic);
  index.append(reinterpret_cast<const char*>(&tail), offsetof(Tail, checksum));
  tail.checksum = digest_of(index).low;
  s.out.write(index);
  s.out.write(reinterpret_cast<const char*>(&tail) + offsetof(Tail, checksum),
              sizeof tail - offsetof(Tail, checksum));
  s.out.commit();
  return s.sum;
}

// ---------------------------------------------------------------- reader

struct RecordFile::State {
  std::string name;
  int fd = -1;
  Tail tail{};
  std::vector<BlockEntry> index;

  explicit State(const fs::path& path) : name(path.string()) {
    fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    check(fd >= 0, Code::input, "[records] ", name, ": ", std::strerror(errno));
    try {
      open(fs::file_size(path));
    } catch (...) {
      ::close(fd);
      throw;
    }
  }
  ~State() { ::close(fd); }

  void read(uint64_t offset, void* out, uint64_t bytes) const {
    auto* to = static_cast<char*>(out);
    while (bytes > 0) {
      const ssize_t n = ::pread(fd, to, bytes, static_cast<off_t>(offset));
      if (n < 0 && errno == EINTR) continue;
      check(n >= 0, Code::io, "[records] ", name, ": ", std::strerror(errno));
      check(n > 0, Code::input, "[records] ", name, ": ends at byte ", offset,
            ", cut off; delete it and run again");
      to += n, offset += static_cast<uint64_t>(n), bytes -= static_cast<uint64_t>(n);
    }
  }

  void open(uint64_t size) {
    const auto sound = [&](bool ok, const char* what) {
      check(ok, Code::input, "[records] ", name, ": ", what, "; delete it and run again");
    };
    sound(size >= sizeof kMagic + sizeof tail, "too short for a file of records");
    char head[sizeof kMagic];
    read(0, head, sizeof head);
    sound(std::memcmp(head, kMagic, sizeof kMagic) == 0, "no file of records");
    read(size - sizeof tail, &tail, sizeof tail);
    sound(std::memcmp(tail.magic, kMagic, sizeof kMagic) == 0,
          "does not end as a file of records does, cut off or damaged");
    const uint64_t room = size - sizeof tail;
    sound(tail.index <= room && tail.blocks == (room - tail.index) / sizeof(BlockEntry) &&
              (room - tail.index) % sizeof(BlockEntry) == 0,
          "its index does not fit into it");
    std::string bytes(room - tail.index + offsetof(Tail, checksum), '\0');
    read(tail.index, bytes.data(), bytes.size());
    sound(digest_of(bytes).low == tail.checksum, "its index is damaged");
    index.resize(tail.blocks);
    if (!index.empty()) std::memcpy(index.data(), bytes.data(), tail.blocks * sizeof(BlockEntry));
    uint64_t place = 0;
    for (const BlockEntry& e : index) {
      sound(e.offset <= tail.index && e.bytes <= tail.index - e.offset && e.unpacked <= kMostUnpacked &&
                e.first_place >= place && e.first_place < tail.records,
            "its index is damaged");
      place = e.first_place;
    }
  }
  uint64_t block_of(uint64_t place) const {
    if (place >= tail.records) return index.size();
    const auto after = std::upper_bound(index.begin(), index.end(), place,
                                        [](uint64_t p, const BlockEntry& e) { return p < e.first_place; });
    return static_cast<uint64_t>(after - index.begin()) - 1;
  }
};

RecordFile::RecordFile(const fs::path& path) : state_(std::make_shared<const State>(path)) {}
uint64_t RecordFile::records() const {
  return state_->tail.records;
}
uint64_t RecordFile::blocks() const {
  return state_->index.size();
}
Digest RecordFile::digest() const {
  return {state_->tail.digest_low, state_->tail.digest_high};
}
uint64_t RecordFile::block_of(uint64_t place) const {
  return state_->block_of(place);
}
uint64_t RecordFile::first_of(uint64_t block) const {
  return block < blocks() ? state_->index[block].first_place : records();
}

std::vector<Record> RecordFile::block(uint64_t number) const {
  const State& s = *state_;
  const auto sound = [&](bool ok) {
    check(ok, Code::input, "[records] ", s.name, ": block ", number, " is damaged; delete it and run again");
  };
  check(number < s.index.size(), Code::bug, "[records] ", s.name, ": block ", number, " of ", s.index.size());
  const BlockEntry& e = s.index[number];
  std::string packed(e.bytes, '\0'), text(e.unpacked, '\0');
  s.read(e.offset, packed.data(), e.bytes);
  sound(digest_of(packed).low == e.checksum);
  sound(ZSTD_decompress(text.data(), text.size(), packed.data(), packed.size()) == text.size());
  std::vector<Record> out(first_of(number + 1) - e.first_place);
  Cursor cursor{text.data(), text.data() + text.size()};
  for (Record& r : out) sound(cursor.take_record(r));
  sound(cursor.at == cursor.end);
  return out;
}

void RecordFile::read(const std::function<void(Record&&)>& sink) const {
  for (uint64_t b = 0; b < blocks(); ++b)
    for (Record& r : block(b)) sink(std::move(r));
}

Record RecordFile::at(uint64_t place) const {
  check(place < records(), Code::usage, "[records] ", state_->name, ": record ", place, " of ", records());
  const uint64_t b = block_of(place);
  return std::move(block(b)[place - first_of(b)]);
}

std::optional<Record> RecordFile::find(uint64_t id) const {
  const auto& index = state_->index;
  const auto at = std::lower_bound(index.begin(), index.end(), id,
                                   [](const BlockEntry& e, uint64_t i) { return e.last_id < i; });
  if (at == index.end() || at->first_id > id) return std::nullopt;
  for (Record& r : block(static_cast<uint64_t>(at - index.begin())))
    if (r.id() == id) return std::move(r);
  return std::nullopt;
}

}  // namespace llmctl
