// SPDX-License-Identifier: Apache-2.0
// What a person sees on stderr while a command works: log lines, warnings, and one progress line
// that lives on a terminal and is printed plainly every ten seconds elsewhere. Results never go here.
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>

namespace llmctl {

// Threads: every method may be called from any thread. One Log per process, passed by reference.
class Log {
 public:
  explicit Log(bool quiet = false);
  // Silences lines and progress; warnings stay.
  void set_quiet(bool quiet);
  bool quiet() const;
  bool terminal() const { return terminal_; }
  void line(std::string_view text);
  void warning(std::string_view text);  // "warning: text"
  // Replaces the live line on a terminal; "" removes it.
  void live(std::string_view text);

 private:
  void write(std::string_view prefix, std::string_view text);
  mutable std::mutex mutex_;
  bool quiet_ = false, terminal_ = false;
  std::string shown_;  // the live line now on the terminal
};

// One piece of work of `total` units (0: unknown). Used from one thread.
//   Progress p(log, "packing", "bytes", total);  p.update(done, "12 shards");  p.finish();
class Progress {
 public:
  Progress(Log& log, std::string what, std::string unit, uint64_t total);
  ~Progress() { finish(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  // Cheap: returns at once when it is too early to draw again. `note` is shown at the end.
  void update(uint64_t done, std::string_view note = {});
  // Whether update() would draw now: for callers whose note is dear to make.
  bool due() const;
  // Clears the live line; prints nothing. Called by the destructor.
  void finish();

 private:
  using Clock = std::chrono::steady_clock;
  Log& log_;
  std::string what_, unit_;
  uint64_t total_ = 0;
  Clock::time_point start_, next_;
  bool finished_ = false;
};

// "1.23M", "456", "7.8k": for rates and counts read by people.
std::string short_count(double value);
// "3s", "4m10s", "2h05m".
std::string short_time(double seconds);

}  // namespace llmctl
