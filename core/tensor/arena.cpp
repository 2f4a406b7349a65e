// SPDX-License-Identifier: Apache-2.0
#include "core/tensor/arena.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <utility>

namespace llmctl {
namespace {
// Planned addresses start here: distinct from null, and a fault when touched.
constexpr uintptr_t kPlannedBase = uintptr_t{1} << 46;
constexpr int64_t kAlign = 64;
}  // namespace

Arena::Arena(std::string name, kn::Device device) : name_(std::move(name)), device_(device) {}

Arena::Arena(Arena&& o) noexcept
    : name_(std::move(o.name_)), device_(o.device_), base_(std::exchange(o.base_, nullptr)), owned_(o.owned_),
      staged_(o.staged_), copy_(std::exchange(o.copy_, nullptr)), top_(o.top_), peak_(o.peak_), size_(o.size_) {}

Arena::~Arena() {
  const bool on_gpu = device_.kind != kn::DeviceKind::cpu;
  if (copy_) kn::device_free(device_, copy_);
  if (!base_ || !owned_) return;
  if (on_gpu)
    staged_ ? kn::pinned_free(device_, base_) : kn::device_free(device_, base_);
  else
    ::munmap(base_, static_cast<size_t>(size_));
}

Arena Arena::staged(std::string name, kn::Device device) {
  Arena a(std::move(name), device);
  a.staged_ = true;
  return a;
}

void Arena::send(const kn::Exec& exec) const {
  if (copy_) kn::upload(exec, copy_, base_, peak_);
}

View Arena::sent(View v) const {
  if (copy_ && v) v.data = copy_ + (static_cast<std::byte*>(v.data) - base_);
  return v;
}

View Arena::take(DType dtype, std::initializer_list<int64_t> dims) {
  View v(nullptr, dtype, dims);
  const int64_t at = top_;
  top_ += (v.bytes() + kAlign - 1) / kAlign * kAlign;
  peak_ = std::max(peak_, top_);
  if (planning()) {
    v.data = reinterpret_cast<void*>(kPlannedBase + static_cast<uintptr_t>(at));
    return v;
  }
  check(top_ <= size_, Code::bug, "[arena ", name_, "] ", top_, " bytes taken of ", size_, " planned");
  v.data = base_ + at;
  return v;
}

void Arena::allocate() {
  check(planning(), Code::bug, "[arena ", name_, "] allocated twice");
  constexpr int64_t kHuge = int64_t{2} << 20;
  size_ = std::max<int64_t>(peak_, 1);
  top_ = 0;
  if (device_.kind != kn::DeviceKind::cpu) {
    base_ = static_cast<std::byte*>(staged_ ? kn::pinned_allocate(device_, size_) : kn::device_allocate(device_, size_));
    if (staged_) copy_ = static_cast<std::byte*>(kn::device_allocate(device_, size_));
    return;
  }
  if (size_ >= kHuge) size_ = (size_ + kHuge - 1) / kHuge * kHuge;
  void* p = ::mmap(nullptr, static_cast<size_t>(size_), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) {
    const int64_t wanted = size_;
    size_ = 0;
    throw Error(Code::memory, fmt::format("[arena {}] cannot map {}", name_, human_bytes(wanted)));
  }
  if (size_ >= kHuge) ::madvise(p, static_cast<size_t>(size_), MADV_HUGEPAGE);
  base_ = static_cast<std::byte*>(p);
}

void Arena::allocate_over(std::byte* memory, int64_t bytes) {
  check(planning() && bytes >= peak_, Code::bug, "[arena ", name_, "] ", bytes, " bytes given, ", peak_, " planned");
  base_ = memory;
  owned_ = false;
  size_ = bytes;
  top_ = 0;
}

View rows_of(const View& v, int64_t begin, int64_t count) {
  const int64_t cols = v.cols();
  check(begin >= 0 && count >= 0 && begin + count <= v.rows(), Code::bug, "[rows_of] ", begin, "+", count, " of ",
        v.rows());
  return View(static_cast<std::byte*>(v.data) + begin * cols * size_of(v.dtype), v.dtype, {count, cols});
}

View reshaped(const View& v, std::initializer_list<int64_t> dims) {
  View r(v.data, v.dtype, dims);
  check(r.size() == v.size(), Code::bug, "[reshaped] ", v.size(), " elements as ", r.size());
  return r;
}

std::string human_bytes(int64_t bytes) {
  constexpr const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  double value = static_cast<double>(bytes);
  int u = 0;
  while (value >= 1024 && u < 5) value /= 1024, ++u;
  return u == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.2f} {}", value, units[u]);
}

}  // namespace llmctl
