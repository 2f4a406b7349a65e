// SPDX-License-Identifier: Apache-2.0
// TensorBoard event files: TFRecord framing (length, masked CRC-32C of it, bytes, masked CRC-32C of
// them) around protocol buffers of type Event, written by hand. Read by TensorBoard as they grow.
//
// A new file is made each time a run starts or resumes. A resumed file says from which step it counts
// (SessionLog START), so TensorBoard drops later points of earlier files.
//
// Follows tensorflow/core/lib/io/record_writer.h, core/util/event.proto, core/framework/summary.proto.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/base/file.h"

namespace llmctl {

// CRC-32C (Castagnoli), and its masked form in TFRecord files.
uint32_t crc32c(std::string_view bytes);
uint32_t masked_crc32c(std::string_view bytes);

// Used from one thread.
class EventWriter {
 public:
  // Creates `folder` when needed and a file in it whose name no other file has. first_step > 0 says
  // that the run resumes at this step. Error{io}.
  EventWriter(const fs::path& folder, int64_t first_step);
  ~EventWriter();
  EventWriter(const EventWriter&) = delete;
  EventWriter& operator=(const EventWriter&) = delete;

  // Adds a point, time-stamped now; seen by readers after flush(). Error{io}.
  void scalar(int64_t step, std::string_view tag, float value);
  void flush();
  const fs::path& path() const { return path_; }

 private:
  void record(std::string_view event);
  fs::path path_;
  int file_ = -1;
  std::string buffer_;
};

}  // namespace llmctl
