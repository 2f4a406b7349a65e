// SPDX-License-Identifier: Apache-2.0
// Where weights go as they are packed: the model's own memory, or a file that is mapped as such.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "kernels/device.h"
#include "kernels/error.h"

namespace llmctl {

// Pieces come one at a time and in increasing order of address; what lies between them is zero.
struct WeightSink {
  virtual ~WeightSink() = default;
  // Memory to fill with the bytes that the model reads at `place`.
  virtual std::byte* stage(const std::byte* place, int64_t bytes) = 0;
  // The piece is complete; its memory is not written any more.
  virtual void done() = 0;
};

struct InPlace final : WeightSink {
  std::byte* stage(const std::byte* place, int64_t) override { return const_cast<std::byte*>(place); }
  void done() override {}
};

// Onto a GPU: the host packs a piece while the one before is on its way.
class DeviceSink final : public WeightSink {
 public:
  explicit DeviceSink(const kn::Exec& exec) : exec_(exec) {}
  ~DeviceSink() override {
    try {
      kn::wait(exec_);
    } catch (const Error&) {  // said by the next call that waits
    }
    for (Piece& p : pieces_) kn::pinned_free(exec_.device, p.memory);
  }
  DeviceSink(const DeviceSink&) = delete;
  DeviceSink& operator=(const DeviceSink&) = delete;
  std::byte* stage(const std::byte* place, int64_t bytes) override {
    Piece& p = pieces_[++turn_ % 2];
    if (turn_ % 2 == 0) kn::wait(exec_);  // both may be on their way
    if (bytes > p.room) {
      kn::pinned_free(exec_.device, std::exchange(p.memory, nullptr));
      p.memory = static_cast<std::byte*>(kn::pinned_allocate(exec_.device, bytes));
      p.room = bytes;
    }
    p.place = const_cast<std::byte*>(place);
    p.bytes = bytes;
    return p.memory;
  }
  void done() override {
    const Piece& p = pieces_[turn_ % 2];
    kn::upload(exec_, p.place, p.memory, p.bytes);
  }

 private:
  struct Piece {
    std::byte *memory = nullptr, *place = nullptr;
    int64_t room = 0, bytes = 0;
  };
  const kn::Exec& exec_;
  Piece pieces_[2];
  uint64_t turn_ = 0;
};

}  // namespace llmctl
