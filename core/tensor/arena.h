// SPDX-License-Identifier: Apache-2.0
// Memory as stacks that are planned before they exist. An arena starts in its planning state: the
// same code runs with Exec.plan set, take() hands out addresses that must not be touched, and the
// arena records the peak. allocate() then maps that much once (huge pages where the system has
// them, zero-filled), after which take() never allocates: running past the plan is Error{bug}.
// An arena of a GPU lies on it: the host touches none of its bytes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/device.h"
#include "kernels/view.h"

namespace llmctl {

using kn::DType;
using kn::View;

class Arena {
 public:
  explicit Arena(std::string name, kn::Device device = {});
  // What the host fills and the device reads: take() gives the host's addresses (pinned for a GPU), and
  // a GPU has a copy of the same layout, where views are after send(). On a CPU both are one.
  static Arena staged(std::string name, kn::Device device);
  ~Arena();
  Arena(Arena&&) noexcept;
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // The next piece, aligned to 64 bytes. The contents are whatever was there.
  View take(DType dtype, std::initializer_list<int64_t> dims);
  View bytes(int64_t n) { return take(DType::u8, {n}); }
  // A stack frame: everything taken after mark() is given back by release().
  int64_t mark() const { return top_; }
  void release(int64_t mark) { top_ = mark; }

  // Copies all that was planned, in the stream's order: the host may write again after kn::wait.
  void send(const kn::Exec& exec) const;
  // Where the device reads what the host wrote at v.
  View sent(View v) const;

  bool planning() const { return base_ == nullptr; }
  // Error{memory} when the system refuses.
  void allocate();
  // Instead: over memory that is there (a mapped file, perhaps read-only), which outlives the arena.
  void allocate_over(std::byte* memory, int64_t bytes);
  int64_t peak() const { return peak_; }
  int64_t size() const { return size_; }
  const std::string& name() const { return name_; }

 private:
  std::string name_;
  kn::Device device_;
  std::byte* base_ = nullptr;
  bool owned_ = true, staged_ = false;
  std::byte* copy_ = nullptr;  // of staged memory, on a GPU
  int64_t top_ = 0, peak_ = 0, size_ = 0;
};

// Gives back what was taken from the arena when the scope ends.
class ArenaFrame {
 public:
  explicit ArenaFrame(Arena& arena) : arena_(arena), mark_(arena.mark()) {}
  ~ArenaFrame() { arena_.release(mark_); }
  ArenaFrame(const ArenaFrame&) = delete;
  ArenaFrame& operator=(const ArenaFrame&) = delete;

 private:
  Arena& arena_;
  int64_t mark_;
};

struct RowRange {
  int64_t begin = 0, count = 0;
};

// Rows [begin, begin + count) of a row-major view; the result has rank 2 (rows, cols).
View rows_of(const View& v, int64_t begin, int64_t count);
// The same bytes under another shape.
View reshaped(const View& v, std::initializer_list<int64_t> dims);
std::string human_bytes(int64_t bytes);

// What a view holds, wherever it lies, after all that was launched before.
template <class T>
std::vector<T> fetched(const kn::Exec& exec, const View& v) {
  std::vector<T> out(static_cast<size_t>(v.bytes()) / sizeof(T));
  kn::download(exec, out.data(), v.data, v.bytes());
  return out;
}

}  // namespace llmctl
