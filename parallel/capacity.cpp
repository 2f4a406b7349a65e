// SPDX-License-Identifier: Apache-2.0
#include "parallel/capacity.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <charconv>
#include <fstream>
#include <optional>

namespace llmctl {
namespace {

// A file that is written again counts as news though it says the same; "" without one.
std::string writing_of(const fs::path& path) {
  struct stat s {};
  if (path.empty() || ::stat(path.c_str(), &s) != 0) return "";
  return fmt::format("{} {} {} {}", s.st_ino, s.st_size, s.st_mtim.tv_sec, s.st_mtim.tv_nsec);
}

std::optional<int> number_in(const fs::path& path) {
  std::ifstream in(path);
  std::string word;
  if (!(in >> word)) return std::nullopt;
  int n = 0;
  const auto [end, ec] = std::from_chars(word.data(), word.data() + word.size(), n);
  const bool whole = ec == std::errc() && end == word.data() + word.size();
  return whole && n >= 0 ? std::optional(n) : std::nullopt;
}

}  // namespace

Capacity::Capacity(int ranks, fs::path slots, double regrow) : slots_(std::move(slots)), room_(ranks), regrow_(regrow) { look(); }

void Capacity::look() {
  const std::string writing = writing_of(slots_);
  if (writing.empty() || writing == seen_) return;
  const std::optional<int> room = number_in(slots_);
  if (!room) return;  // being written, perhaps: the next look sees it whole
  seen_ = writing;
  room_ = *room;
  given_up_ = 0;
  why_ = fmt::format("{} says there is room for {} ranks", slots_.string(), room_);
}

int Capacity::ranks() {
  look();
  if (given_up_ > 0 && regrow_ > 0 && seconds_since(since_) >= regrow_) {
    why_ = fmt::format("{:g} s have passed since a rank was given up", regrow_);
    given_up_ = 0;
    regrow_ *= 2;
  }
  return room_ - given_up_;
}

void Capacity::give_up_one(int world) {
  given_up_ = room_ - world + 1;
  since_ = Clock::now();
}

}  // namespace llmctl
