// SPDX-License-Identifier: Apache-2.0
#include "core/train/tensorboard.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstring>

namespace llmctl {
namespace {

constexpr std::array<uint32_t, 256> crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t c = i;
    for (int bit = 0; bit < 8; ++bit) c = c & 1 ? (c >> 1) ^ 0x82f63b78u : c >> 1;
    table[i] = c;
  }
  return table;
}

template <class T>
void append_little_endian(std::string& out, T value) {
  for (size_t i = 0; i < sizeof value; ++i) out.push_back(static_cast<char>(value >> (8 * i)));
}

// Protocol buffer fields: a key (number * 8 + wire type), then the value.
enum Wire : uint32_t { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

void put_varint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>(value | 0x80));
  out.push_back(static_cast<char>(value));
}
void put_key(std::string& out, uint32_t number, Wire wire) {
  put_varint(out, number * 8 + wire);
}
void put_integer(std::string& out, uint32_t number, int64_t value) {
  put_key(out, number, varint);
  put_varint(out, static_cast<uint64_t>(value));
}
void put_double(std::string& out, uint32_t number, double value) {
  put_key(out, number, fixed64);
  append_little_endian(out, std::bit_cast<uint64_t>(value));
}
void put_float(std::string& out, uint32_t number, float value) {
  put_key(out, number, fixed32);
  append_little_endian(out, std::bit_cast<uint32_t>(value));
}
void put_bytes(std::string& out, uint32_t number, std::string_view value) {
  put_key(out, number, bytes);
  put_varint(out, value.size());
  out.append(value);
}

double seconds_now() {
  const auto since = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration<double>(since).count();
}

// Event.wall_time and Event.step, which every event begins with.
std::string event_at(int64_t step) {
  std::string event;
  put_double(event, 1, seconds_now());
  put_integer(event, 2, step);
  return event;
}

[[noreturn]] void fail(const fs::path& path, const char* what) {
  throw Error(Code::io, std::string("[tensorboard] cannot ") + what + " " + path.string() + ": " +
                            std::strerror(errno));
}

}  // namespace

uint32_t crc32c(std::string_view text) {
  static constexpr auto table = crc_table();
  uint32_t crc = ~0u;
  for (char c : text) crc = table[(crc ^ static_cast<unsigned char>(c)) & 0xff] ^ (crc >> 8);
  return ~crc;
}

uint32_t masked_crc32c(std::string_view text) {
  return std::rotr(crc32c(text), 15) + 0xa282ead8u;
}

EventWriter::EventWriter(const fs::path& folder, int64_t first_step) {
  std::error_code ec;
  fs::create_directories(folder, ec);
  check(!ec, Code::io, "[tensorboard] cannot create ", folder.string(), ": ", ec.message());
  const std::string stem = "events.out.tfevents." + std::to_string(static_cast<int64_t>(seconds_now())) +
                           ".llmctl." + std::to_string(::getpid()) + ".";
  for (int i = 0; file_ < 0; ++i) {
    path_ = folder / (stem + std::to_string(i));
    file_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (file_ < 0 && errno != EEXIST) fail(path_, "create");
  }
  std::string version = event_at(0);
  put_bytes(version, 3, "brain.Event:2");
  record(version);
  if (first_step > 0) {
    std::string session;
    put_integer(session, 1, 1);  // SessionLog.status = START
    std::string start = event_at(first_step);
    put_bytes(start, 7, session);
    record(start);
  }
}

EventWriter::~EventWriter() {
  try {
    flush();
  } catch (const Error&) {  // flush() has said so before; a destructor must not
  }
  ::close(file_);
}

void EventWriter::scalar(int64_t step, std::string_view tag, float value) {
  std::string point, summary;
  put_bytes(point, 1, tag);
  put_float(point, 2, value);
  put_bytes(summary, 1, point);
  std::string event = event_at(step);
  put_bytes(event, 5, summary);
  record(event);
}

void EventWriter::record(std::string_view event) {
  std::string length;
  append_little_endian(length, static_cast<uint64_t>(event.size()));
  buffer_ += length;
  append_little_endian(buffer_, masked_crc32c(length));
  buffer_ += event;
  append_little_endian(buffer_, masked_crc32c(event));
  if (buffer_.size() > (size_t{1} << 16)) flush();
}

void EventWriter::flush() {
  size_t done = 0;
  while (done < buffer_.size()) {
    const ssize_t n = ::write(file_, buffer_.data() + done, buffer_.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      buffer_.erase(0, done);
      fail(path_, "write");
    }
    done += static_cast<size_t>(n);
  }
  buffer_.clear();
}

}  // namespace llmctl
