// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer/piece_counter.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <queue>

#include "core/base/digest.h"
#include "data/tokenizer/tokenizer_files.h"

namespace llmctl {

namespace {

// A run is blocks of {u64 bytes, digest, entries}; an entry is {u64 count, u32 size, the piece}, ascending.
struct BlockHead {
  uint64_t bytes = 0;
  Digest digest;
};
constexpr size_t kBlock = size_t{1} << 20;
constexpr size_t kEntryHead = sizeof(uint64_t) + sizeof(uint32_t);

class RunWriter {
 public:
  explicit RunWriter(const fs::path& path) : file_(path, false) {}
  void add(std::string_view piece, uint64_t count) {
    const auto size = static_cast<uint32_t>(piece.size());
    block_.append(reinterpret_cast<const char*>(&count), sizeof count);
    block_.append(reinterpret_cast<const char*>(&size), sizeof size);
    block_ += piece;
    if (block_.size() >= kBlock) flush();
  }
  void commit() {
    flush();
    file_.commit();
  }

 private:
  void flush() {
    if (block_.empty()) return;
    const BlockHead head{block_.size(), digest_of(block_)};
    file_.write(&head, sizeof head);
    file_.write(block_);
    block_.clear();
  }
  OutputFile file_;
  std::string block_;
};

class RunReader {
 public:
  explicit RunReader(const fs::path& path) : path_(path), map_(path) { next(); }
  bool done() const { return done_; }
  std::string_view piece() const { return piece_; }
  uint64_t count() const { return count_; }
  void next() {
    if (at_ == end_ && !open_block()) return;
    uint32_t size = 0;
    sane(end_ - at_ >= kEntryHead);
    std::memcpy(&count_, bytes() + at_, sizeof count_);
    std::memcpy(&size, bytes() + at_ + sizeof count_, sizeof size);
    at_ += kEntryHead;
    sane(end_ - at_ >= size);
    piece_ = {bytes() + at_, size};
    at_ += size;
  }

 private:
  const char* bytes() const { return reinterpret_cast<const char*>(map_.data()); }
  void sane(bool so) const {
    check(so, Code::io, "[tokenize] ", path_.string(), ": the temporary file changed after it was written");
  }
  bool open_block() {
    done_ = end_ == map_.size();
    if (done_) return false;
    BlockHead head;
    sane(map_.size() - end_ >= sizeof head);
    std::memcpy(&head, bytes() + end_, sizeof head);
    at_ = end_ + sizeof head;
    sane(head.bytes > 0 && head.bytes <= map_.size() - at_);
    end_ = at_ + head.bytes;
    sane(digest_of(bytes() + at_, head.bytes) == head.digest);
    return true;
  }
  fs::path path_;
  FileMap map_;
  size_t at_ = 0, end_ = 0;  // of the block
  std::string_view piece_;
  uint64_t count_ = 0;
  bool done_ = false;
};

}  // namespace

// ---------------------------------------------------------------- the counter

struct PieceCounter::Run {
  explicit Run(fs::path p) : path(std::move(p)) {}
  ~Run() {
    std::error_code ignored;
    fs::remove(path, ignored);
  }
  fs::path path;
};

PieceCounter::PieceCounter(const std::string& pattern, uint64_t memory, fs::path folder)
    : cut_(pre_tokenizer_json(pattern)), memory_(memory), folder_(std::move(folder)) {}

PieceCounter::~PieceCounter() = default;
PieceCounter::PieceCounter(PieceCounter&&) noexcept = default;
PieceCounter& PieceCounter::operator=(PieceCounter&&) noexcept = default;

void PieceCounter::add(std::string_view text) {
  bytes_ += text.size();
  const bool in_place = cut_.in_place();
  const char* end = text.data() + text.size();
  cut_.for_each_piece(text, true,
                      [&](std::string_view piece) { put(piece, 1, in_place ? end : piece.data() + piece.size()); });
}

void PieceCounter::put(std::string_view piece, uint64_t count, const char* end) {
  if (memory_ > 0 && table_.bytes_with(1, piece.size()) > memory_) spill();
  table_.add(piece, count, end);
}

void PieceCounter::spill() {
  if (table_.empty()) return;
  std::vector<std::pair<std::string_view, uint64_t>> entries;
  table_.each([&](std::string_view piece, uint64_t count) { entries.emplace_back(piece, count); });
  std::sort(entries.begin(), entries.end());
  static std::atomic<uint64_t> names{0};
  const fs::path path = folder_ / ("pieces-" + std::to_string(names++) + ".run");
  RunWriter run(path);
  for (const auto& [piece, count] : entries) run.add(piece, count);
  run.commit();
  runs_.push_back(std::make_unique<Run>(path));
  table_.clear();
}

void PieceCounter::merge(PieceCounter&& other) {
  bytes_ += std::exchange(other.bytes_, 0);
  other.table_.each([&](std::string_view piece, uint64_t count) { put(piece, count, piece.data()); });
  other.table_.clear();
  for (std::unique_ptr<Run>& run : other.runs_) runs_.push_back(std::move(run));
  other.runs_.clear();
}

void PieceCounter::each(const PieceTable::Sink& sink) {
  if (runs_.empty()) return table_.each(sink);
  spill();
  std::vector<RunReader> readers;
  for (const std::unique_ptr<Run>& run : runs_) readers.emplace_back(run->path);
  const auto later = [&](size_t a, size_t b) { return readers[a].piece() > readers[b].piece(); };
  std::priority_queue<size_t, std::vector<size_t>, decltype(later)> waiting(later);
  for (size_t r = 0; r < readers.size(); ++r)
    if (!readers[r].done()) waiting.push(r);
  std::string piece;
  uint64_t count = 0;
  while (!waiting.empty()) {
    const size_t r = waiting.top();
    waiting.pop();
    if (count > 0 && readers[r].piece() != piece) sink(piece, std::exchange(count, 0));
    piece = readers[r].piece();
    count += readers[r].count();
    readers[r].next();
    if (!readers[r].done()) waiting.push(r);
  }
  if (count > 0) sink(piece, count);
}

}  // namespace llmctl
