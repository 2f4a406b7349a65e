// SPDX-License-Identifier: Apache-2.0
#include "core/base/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <utility>

namespace llmctl {
namespace {

void to_stderr(const std::string& text) {
  const char* p = text.data();
  size_t left = text.size();
  while (left > 0) {  // a closed stderr must not end the work
    ssize_t n = ::write(2, p, left);
    if (n <= 0) return;
    p += n;
    left -= static_cast<size_t>(n);
  }
}

size_t terminal_width() {
  winsize size{};
  return ::ioctl(2, TIOCGWINSZ, &size) == 0 && size.ws_col > 20 ? size.ws_col : 80;
}

constexpr const char* kClearLine = "\r\x1b[K";

}  // namespace

Log::Log(bool quiet) : quiet_(quiet) {
  const char* term = std::getenv("TERM");
  terminal_ = ::isatty(2) == 1 && term && std::string_view(term) != "dumb";
}

void Log::set_quiet(bool quiet) {
  std::lock_guard lock(mutex_);
  quiet_ = quiet;
}

bool Log::quiet() const {
  std::lock_guard lock(mutex_);
  return quiet_;
}

void Log::write(std::string_view prefix, std::string_view text) {
  std::string out = shown_.empty() ? "" : kClearLine;
  out.append(prefix).append(text).append("\n").append(shown_);
  to_stderr(out);
}

void Log::line(std::string_view text) {
  std::lock_guard lock(mutex_);
  if (!quiet_) write("", text);
}

void Log::warning(std::string_view text) {
  std::lock_guard lock(mutex_);
  write("warning: ", text);
}

void Log::live(std::string_view text) {
  std::lock_guard lock(mutex_);
  if (quiet_ || !terminal_) return;
  if (text.empty() && shown_.empty()) return;
  shown_ = std::string(text.substr(0, terminal_width() - 1));
  to_stderr(kClearLine + shown_);
}

Progress::Progress(Log& log, std::string what, std::string unit, uint64_t total)
    : log_(log), what_(std::move(what)), unit_(std::move(unit)), total_(total), start_(Clock::now()) {
  next_ = start_ + std::chrono::milliseconds(log_.terminal() ? 200 : 10000);
}

bool Progress::due() const {
  return !finished_ && Clock::now() >= next_;
}

void Progress::update(uint64_t done, std::string_view note) {
  if (!due()) return;
  auto now = Clock::now();
  next_ = now + std::chrono::milliseconds(log_.terminal() ? 200 : 10000);
  double seconds = std::chrono::duration<double>(now - start_).count();
  double rate = static_cast<double>(done) / seconds;
  std::string text = what_ + " ";
  if (total_ > 0) {
    double share = 100.0 * static_cast<double>(done) / static_cast<double>(total_);
    text += fmt::format("{:.0f}% {}/{} {}", share, short_count(static_cast<double>(done)),
                        short_count(static_cast<double>(total_)), unit_);
  } else {
    text += fmt::format("{} {}", short_count(static_cast<double>(done)), unit_);
  }
  text += fmt::format(" {}/s", short_count(rate));
  if (total_ > done && done > 0) text += " ETA " + short_time(static_cast<double>(total_ - done) / rate);
  if (!note.empty()) text.append(" ").append(note);
  if (log_.terminal())
    log_.live(text);
  else
    log_.line(text);
}

void Progress::finish() {
  if (!std::exchange(finished_, true)) log_.live("");
}

std::string short_count(double value) {
  constexpr const char* units[] = {"", "k", "M", "G", "T", "P"};
  size_t unit = 0;
  while (value >= 999.5 && unit + 1 < std::size(units)) {
    value /= 1000;
    ++unit;
  }
  bool whole = unit == 0 && value == static_cast<double>(static_cast<int64_t>(value));
  int digits = whole ? 0 : value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return fmt::format("{:.{}f}{}", value, digits, units[unit]);
}

std::string short_time(double seconds) {
  if (!(seconds < 359999.0)) return "long";  // also for what is not a number
  auto s = static_cast<int64_t>(seconds + 0.5);
  if (s < 60) return fmt::format("{}s", s);
  if (s < 3600) return fmt::format("{}m{:02}s", s / 60, s % 60);
  return fmt::format("{}h{:02}m", s / 3600, s % 3600 / 60);
}

}  // namespace llmctl
