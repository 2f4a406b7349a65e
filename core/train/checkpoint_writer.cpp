// SPDX-License-Identifier: Apache-2.0
#include "core/train/checkpoint_writer.h"

#include "core/base/clock.h"
#include "kernels/device.h"

namespace llmctl {
CheckpointWriter::CheckpointWriter(Comm& ranks, const kn::Exec& exec, bool asynchronous)
    : comm_(ranks.split(0, ranks.rank(), "checkpoint")),
      asynchronous_(asynchronous && exec.device.kind == kn::DeviceKind::cpu),
      exec_(exec) {
  if (!asynchronous_) return;
  exec_.pool = &pool_;  // a pool is used by one thread at a time, and so is a trace
  exec_.trace = nullptr;
}

CheckpointWriter::~CheckpointWriter() {
  if (thread_.joinable()) thread_.join();
}

void CheckpointWriter::write(const Save& save) {
  const auto start = Clock::now();
  try {
    save({comm_.get(), &gate_, exec_});
  } catch (const std::exception& e) {
    error_ = error_of(e);
    failed_ = true;
  }
  gate_.open();
  times_->seconds = seconds_since(start);
  ended_ = true;
}

void CheckpointWriter::start(int64_t step, Save save) {
  const auto begin = Clock::now();
  wait();
  times_ = SaveTimes{.step = step};
  ended_ = failed_ = false;
  blocked_ = 0;
  blocked_before_ = gate_.blocked();
  gate_.close();
  if (asynchronous_)
    thread_ = std::thread([this, save = std::move(save)] { write(save); });
  else
    write(save);
  blocked_ = seconds_since(begin);
  if (!asynchronous_) wait();
}

void CheckpointWriter::join() {
  const auto begin = Clock::now();
  thread_.join();
  blocked_ += seconds_since(begin);
}

void CheckpointWriter::wait() {
  if (thread_.joinable()) join();
  if (error_) refuse_together(*comm_, *error_);
}

std::optional<SaveTimes> CheckpointWriter::done() {
  if (!times_ || !ended_ || failed_) return std::nullopt;
  SaveTimes times = *times_;
  times.blocked = blocked();
  times_.reset();
  return times;
}

}  // namespace llmctl
