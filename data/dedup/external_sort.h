// SPDX-License-Identifier: Apache-2.0
// Sorts more rows than memory holds: full buffers are sorted on the threads of an Exec and spilled to
// files, which are merged into the caller's sink. Rows are plain bytes (trivially copyable, no padding);
// rows that Less calls equal are ordered by their bytes, so the outcome is one for any thread count, any
// memory limit and any order of arrival.
//
// memory_bytes bounds the buffer while rows arrive, and the read buffers while they are merged: with more
// runs than fit at 64 KiB each, runs are merged into longer ones first. Errors are those of SpilledRuns;
// the files are removed when finish() returns or throws, and by the destructor. A killed process leaves
// them: give each sort a folder that the next start empties.
// Threads: add() and finish() from one thread.
#pragma once

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <utility>

#include "core/base/each_index.h"
#include "data/dedup/spilled_runs.h"

namespace llmctl {

template <class Row, class Less>
class ExternalSort {
  static_assert(std::is_trivially_copyable_v<Row> && std::has_unique_object_representations_v<Row>);

 public:
  ExternalSort(const SortOptions& options, const kn::Exec& exec, Less less = {})
      : exec_(exec),
        less_(less),
        memory_(std::max(options.memory_bytes, uint64_t{1} << 20)),
        runs_(options, sizeof(Row)) {}

  void add(const Row& row) {
    if (buffer_.size() == buffer_.capacity()) make_room();
    buffer_.push_back(row);
    ++rows_;
  }
  uint64_t rows() const { return rows_; }
  uint64_t spilled_bytes() const { return runs_.written_bytes(); }

  // Calls sink(const Row&) for every row in order; once.
  template <class Sink>
  void finish(Sink&& sink) {
    if (runs_.count() == 0) {
      merge(pieces_of_buffer(), sink);
    } else {
      spill();
      std::vector<Row>().swap(buffer_);
      shorten();
      merge(sources(merged_, runs_.count()), sink);
    }
    for (; merged_ < runs_.count(); ++merged_) runs_.remove(merged_);
    std::vector<Row>().swap(buffer_);
  }

 private:
  // Rows still to come of a sorted piece: [at, end) in memory, then the run's blocks from `block` on.
  struct Source {
    const Row *at = nullptr, *end = nullptr;
    size_t run = SIZE_MAX;  // none: memory only
    uint64_t block = 0;
    std::vector<Row> rows;
  };

  bool before(const Row& a, const Row& b) const {
    if (less_(a, b)) return true;
    if (less_(b, a)) return false;
    return std::memcmp(&a, &b, sizeof(Row)) < 0;
  }

  // Doubles up to the limit: a sort of few rows takes little.
  void make_room() {
    const size_t most = std::max<size_t>(memory_ / sizeof(Row), 1), held = buffer_.capacity();
    if (held >= most) return spill();
    // While a vector grows both copies are there, so the last step goes from half the limit.
    if (held * 4 >= most && held * 2 < most) buffer_.reserve(most / 2);
    buffer_.reserve(std::min(most, std::max<size_t>(held * 2, 1024)));
  }

  std::vector<Source> pieces_of_buffer() {
    const int64_t most = static_cast<int64_t>(buffer_.size() / 4096) + 1;
    const int64_t n = std::min<int64_t>(most, exec_.pool->threads());
    const auto cut = [&](int64_t i) { return buffer_.data() + buffer_.size() * i / n; };
    for_each_index(exec_, n, [&](int64_t i) {
      std::sort(cut(i), cut(i + 1), [this](const Row& a, const Row& b) { return before(a, b); });
    });
    std::vector<Source> pieces(static_cast<size_t>(n));
    for (int64_t i = 0; i < n; ++i) pieces[i].at = cut(i), pieces[i].end = cut(i + 1);
    return pieces;
  }

  void spill() {
    const size_t run = runs_.open();
    merge(pieces_of_buffer(), [&](const Row& row) { runs_.append(run, &row); });
    runs_.close(run);
    buffer_.clear();
  }

  std::vector<Source> sources(size_t first, size_t last) {
    std::vector<Source> list(last - first);
    for (size_t i = 0; i < list.size(); ++i) {
      list[i].run = first + i;
      list[i].rows.resize(runs_.rows_per_block());
    }
    return list;
  }

  // Merges the oldest runs into one until all that are left can be read at once.
  void shorten() {
    const size_t fan = std::max<size_t>(memory_ / SpilledRuns::kBlockBytes, 2);
    while (runs_.count() - merged_ > fan) {
      const size_t first = merged_, last = merged_ + fan, longer = runs_.open();
      merge(sources(first, last), [&](const Row& row) { runs_.append(longer, &row); });
      runs_.close(longer);
      for (; merged_ < last; ++merged_) runs_.remove(merged_);
    }
  }

  bool refill(Source& s) {
    if (s.at != s.end) return true;
    if (s.run == SIZE_MAX) return false;
    const uint64_t n = runs_.read(s.run, s.block++, s.rows.data());
    s.at = s.rows.data(), s.end = s.at + n;
    return n > 0;
  }

  template <class Sink>
  void merge(std::vector<Source> list, Sink&& sink) {
    std::vector<Source*> heap;  // the smallest next row first
    for (Source& s : list)
      if (refill(s)) heap.push_back(&s);
    for (size_t i = heap.size(); i-- > 0;) sink_down(heap, i);
    while (!heap.empty()) {
      Source& s = *heap.front();
      sink(*s.at++);
      if (!refill(s)) {
        heap.front() = heap.back();
        heap.pop_back();
      }
      sink_down(heap, 0);
    }
  }

  void sink_down(std::vector<Source*>& heap, size_t i) const {
    for (size_t child = 2 * i + 1; child < heap.size(); i = child, child = 2 * i + 1) {
      if (child + 1 < heap.size() && before(*heap[child + 1]->at, *heap[child]->at)) ++child;
      if (!before(*heap[child]->at, *heap[i]->at)) return;
      std::swap(heap[child], heap[i]);
    }
  }

  kn::Exec exec_;
  Less less_;
  uint64_t memory_, rows_ = 0;
  SpilledRuns runs_;
  size_t merged_ = 0;  // runs before this one are used up
  std::vector<Row> buffer_;
};

}  // namespace llmctl
