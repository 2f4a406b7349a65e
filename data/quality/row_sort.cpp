// SPDX-License-Identifier: Apache-2.0
#include "data/quality/row_sort.h"

#include <algorithm>
#include <cstring>

namespace llmctl {
namespace {

uint64_t count_of_row(const uint32_t* payload) {
  return payload[0] | uint64_t{payload[1]} << 32;
}

void add_count(uint32_t* payload, uint64_t count) {
  count += count_of_row(payload);
  payload[0] = static_cast<uint32_t>(count);
  payload[1] = static_cast<uint32_t>(count >> 32);
}

bool keys_less(const uint32_t* a, const uint32_t* b, int keys) {
  for (int i = 0; i < keys; ++i)
    if (a[i] != b[i]) return a[i] < b[i];
  return false;
}

}  // namespace

RowSorter::RowSorter(fs::path run_file, RowShape shape, uint64_t memory_bytes)
    : path_(std::move(run_file)), shape_(shape), width_(static_cast<size_t>(shape.width())) {
  // A row, its copy in sorted order and its index.
  capacity_ = std::max<size_t>(1024, memory_bytes / (8 * width_ + 16));
}

RowSorter::~RowSorter() {
  if (file_ == nullptr) return;
  std::fclose(file_);
  std::error_code ignored;
  fs::remove(path_, ignored);
}

void RowSorter::push(const uint32_t* row) {
  if (rows_.size() / width_ >= capacity_) spill();
  rows_.insert(rows_.end(), row, row + width_);
}

// Sorts the rows and adds up equal ones.
void RowSorter::sort_buffer() {
  struct Entry {
    uint64_t head;  // the first two keys: most comparisons end there
    uint32_t index;
  };
  const size_t n = rows_.size() / width_;
  std::vector<Entry> order(n);
  for (size_t i = 0; i < n; ++i) {
    const uint32_t* r = rows_.data() + i * width_;
    order[i] = {uint64_t{r[0]} << 32 | (shape_.keys > 1 ? r[1] : 0), static_cast<uint32_t>(i)};
  }
  const uint32_t* base = rows_.data();
  std::sort(order.begin(), order.end(), [&](const Entry& a, const Entry& b) {
    if (a.head != b.head) return a.head < b.head;
    return keys_less(base + a.index * width_, base + b.index * width_, shape_.keys);
  });
  std::vector<uint32_t> sorted;
  sorted.reserve(rows_.size());
  for (const Entry& e : order) {
    const uint32_t* r = base + e.index * width_;
    uint32_t* last = sorted.empty() ? nullptr : sorted.data() + sorted.size() - width_;
    if (shape_.add_counts && last != nullptr && !keys_less(last, r, shape_.keys))
      add_count(last + shape_.keys, count_of_row(r + shape_.keys));
    else
      sorted.insert(sorted.end(), r, r + width_);
  }
  rows_ = std::move(sorted);
}

void RowSorter::spill() {
  sort_buffer();
  if (shape_.add_counts && rows_.size() / width_ < capacity_ / 2) return;  // adding up made room
  if (file_ == nullptr) file_ = std::fopen(path_.c_str(), "w+b");
  check(file_ != nullptr, Code::io, "[ngram] cannot make ", path_.string());
  Run run;
  check(std::fseek(file_, 0, SEEK_END) == 0, Code::io, "[ngram] cannot seek in ", path_.string());
  run.offset = static_cast<uint64_t>(std::ftell(file_));
  run.rows = rows_.size() / width_;
  const size_t written = std::fwrite(rows_.data(), sizeof(uint32_t), rows_.size(), file_);
  check(written == rows_.size(), Code::io, "[ngram] cannot write ", path_.string(), ": is the disk full?");
  runs_.push_back(std::move(run));
  rows_.clear();
}

bool RowSorter::fill(Run& run) {
  if (run.rows == 0) return false;
  const size_t room = std::max<size_t>(64, capacity_ / (2 * runs_.size()));
  const auto n = static_cast<size_t>(std::min<uint64_t>(run.rows, room));
  run.buffer.resize(n * width_);
  run.at = 0;
  const bool placed = std::fseek(file_, static_cast<long>(run.offset), SEEK_SET) == 0;
  const size_t read = placed ? std::fread(run.buffer.data(), sizeof(uint32_t), run.buffer.size(), file_) : 0;
  check(read == run.buffer.size(), Code::io, "[ngram] cannot read back ", path_.string());
  run.offset += read * sizeof(uint32_t);
  run.rows -= n;
  return true;
}

bool RowSorter::less(size_t a, size_t b) const {
  return keys_less(runs_[a].buffer.data() + runs_[a].at, runs_[b].buffer.data() + runs_[b].at, shape_.keys);
}

void RowSorter::sift(size_t at) {
  for (;;) {
    size_t least = at;
    for (size_t child = 2 * at + 1; child <= 2 * at + 2 && child < heap_.size(); ++child)
      if (less(heap_[child], heap_[least])) least = child;
    if (least == at) return;
    std::swap(heap_[at], heap_[least]);
    at = least;
  }
}

void RowSorter::rewind() {
  if (!runs_.empty()) {
    if (!rows_.empty()) spill();
    if (!rows_.empty()) {  // made room instead: a run in memory
      Run run;
      run.buffer = std::move(rows_);
      runs_.push_back(std::move(run));
    }
    rows_ = {};
  } else {
    sort_buffer();
    Run run;
    run.buffer = std::move(rows_);
    runs_.push_back(std::move(run));
    rows_ = {};
  }
  heap_.clear();
  for (size_t i = 0; i < runs_.size(); ++i)
    if (!runs_[i].buffer.empty() || fill(runs_[i])) heap_.push_back(i);
  for (size_t i = heap_.size(); i-- > 0;) sift(i);
  row_.resize(width_);
  ahead_.resize(width_);
  has_ahead_ = take(ahead_);
}

bool RowSorter::take(std::vector<uint32_t>& row) {
  if (heap_.empty()) return false;
  Run& run = runs_[heap_[0]];
  std::memcpy(row.data(), run.buffer.data() + run.at, width_ * sizeof(uint32_t));
  run.at += width_;
  if (run.at == run.buffer.size() && !fill(run)) {
    run.buffer = {};
    heap_[0] = heap_.back();
    heap_.pop_back();
  }
  if (!heap_.empty()) sift(0);
  return true;
}

bool RowSorter::next() {
  if (!has_ahead_) return false;
  row_.swap(ahead_);
  while ((has_ahead_ = take(ahead_)) && shape_.add_counts &&
         !keys_less(row_.data(), ahead_.data(), shape_.keys))
    add_count(row_.data() + shape_.keys, count_of_row(ahead_.data() + shape_.keys));
  return true;
}

}  // namespace llmctl
