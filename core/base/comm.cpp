// SPDX-License-Identifier: Apache-2.0
#include "core/base/comm.h"

#include <algorithm>
#include <cstring>

#include "core/base/file.h"

namespace llmctl {
namespace {

constexpr int64_t kTextLimit = int64_t{1} << 20;

// Copies without sending: the collectives of one rank. A message to oneself waits here for its receive.
class SoloComm final : public Comm {
 public:
  explicit SoloComm(std::string name) : name_(std::move(name)) {}
  int rank() const override { return 0; }
  int size() const override { return 1; }
  const std::string& name() const override { return name_; }
  void barrier(CommLabel) override {}
  void broadcast(std::span<std::byte>, int, CommLabel) override {}
  void all_gather(std::span<const std::byte> mine, std::span<std::byte> all, CommOffsets offsets,
                  CommLabel label) override {
    copy(mine, all.subspan(static_cast<size_t>(offsets[0]), static_cast<size_t>(offsets[1] - offsets[0])),
         label);
  }
  void all_to_all(std::span<const std::byte> send, CommOffsets from, std::span<std::byte> recv,
                  CommOffsets to, CommLabel label) override {
    copy(send.subspan(static_cast<size_t>(from[0]), static_cast<size_t>(from[1] - from[0])),
         recv.subspan(static_cast<size_t>(to[0]), static_cast<size_t>(to[1] - to[0])), label);
  }
  void all_reduce(std::span<int64_t>, CommOp, CommLabel) override {}
  void all_reduce(std::span<int32_t>, CommOp, CommLabel) override {}
  void reduce_scatter(std::span<int64_t>, CommOffsets, CommLabel) override {}
  void reduce_scatter(std::span<int32_t>, CommOffsets, CommLabel) override {}
  CommHandle isend(std::span<const std::byte>, int, int, CommLabel label) override { refuse(label); }
  CommHandle irecv(std::span<std::byte>, int, int, CommLabel label) override { refuse(label); }
  std::unique_ptr<Comm> split(int color, int, const std::string& name) override {
    return color < 0 ? nullptr : solo_comm(name);
  }
  CommCounts counts() const override { return {}; }
  void reset_counts() override {}
  void abandon(const std::string&) noexcept override {}

 private:
  static void copy(std::span<const std::byte> from, std::span<std::byte> to, CommLabel label) {
    check(from.size() == to.size(), Code::bug, "[comm] ", label.what, ": ", from.size(),
          " bytes for a place of ", to.size());
    if (from.data() != to.data() && !from.empty()) std::memcpy(to.data(), from.data(), from.size());
  }
  [[noreturn]] static void refuse(CommLabel label) {
    throw Error(Code::bug, "[comm] " + std::string(label.what) + ": a message in a group of one rank");
  }
  std::string name_;
};

// "0-2, 5".
std::string ranges(const std::vector<int>& ranks) {
  std::string text;
  for (size_t i = 0; i < ranks.size();) {
    size_t j = i;
    while (j + 1 < ranks.size() && ranks[j + 1] == ranks[j] + 1) ++j;
    text += (text.empty() ? "" : ", ") + std::to_string(ranks[i]);
    if (j > i) text += "-" + std::to_string(ranks[j]);
    i = j + 1;
  }
  return text;
}

std::string shortened(const std::string& value) {
  constexpr size_t kShown = 80;
  std::string text = value.substr(0, kShown) + (value.size() > kShown ? "..." : "");
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

}  // namespace

// None may throw, and so give up, while another still waits.
void refuse_together(Comm& comm, const Error& error) {
  try {
    comm.barrier("refusal");
  } catch (const Error&) {
    // Others are past it and have given up, which says that all know.
  }
  throw error;
}

const char* name_of(CommKind kind) {
  constexpr const char* kNames[kCommKinds] = {"barrier",        "broadcast",  "all_gather",    "all_reduce",
                                              "reduce_scatter", "all_to_all", "point-to-point"};
  return kNames[static_cast<size_t>(kind)];
}

CommCount CommCounts::total() const {
  CommCount sum;
  for (const CommCount& c : kinds)
    sum = {sum.calls + c.calls, sum.messages + c.messages, sum.bytes + c.bytes};
  return sum;
}

std::vector<int64_t> even_offsets(int64_t items, int ranks, int64_t grain) {
  const int64_t grains = (items + grain - 1) / grain;
  std::vector<int64_t> offsets;
  for (int r = 0; r <= ranks; ++r)
    offsets.push_back(std::min(items, (grains / ranks * r + std::min<int64_t>(r, grains % ranks)) * grain));
  return offsets;
}

std::vector<int64_t> in_bytes(std::vector<int64_t> offsets, int64_t item_bytes) {
  for (int64_t& border : offsets) border *= item_bytes;
  return offsets;
}

std::unique_ptr<Comm> solo_comm(const std::string& name) {
  return std::make_unique<SoloComm>(name);
}

std::vector<std::string> all_gather_text(Comm& comm, std::string_view mine, CommLabel label) {
  if (comm.size() == 1) return {std::string(mine)};
  check(static_cast<int64_t>(mine.size()) <= kTextLimit, Code::bug, "[comm] ", label.what, ": a text of ",
        mine.size(), " bytes, at most ", kTextLimit);
  const auto ranks = static_cast<size_t>(comm.size());
  std::vector<int64_t> sizes(ranks), borders(ranks + 1), offsets(ranks + 1, 0);
  for (size_t r = 0; r <= ranks; ++r) borders[r] = static_cast<int64_t>(r * sizeof(int64_t));
  const auto size = static_cast<int64_t>(mine.size());
  comm.all_gather(std::as_bytes(std::span(&size, 1)), writable_bytes_of(std::span(sizes)), borders, label);
  for (size_t r = 0; r < ranks; ++r) offsets[r + 1] = offsets[r] + sizes[r];
  std::string all(static_cast<size_t>(offsets.back()), '\0');
  comm.all_gather(std::as_bytes(std::span(mine)), writable_bytes_of(std::span(all)), offsets, label);
  std::vector<std::string> texts;
  for (size_t r = 0; r < ranks; ++r)
    texts.push_back(all.substr(static_cast<size_t>(offsets[r]), static_cast<size_t>(sizes[r])));
  return texts;
}

void require_same(Comm& comm, const std::string& what, std::string_view value) {
  const std::vector<std::string> values = all_gather_text(comm, value, what);
  std::vector<std::pair<std::string, std::vector<int>>> groups;
  for (size_t r = 0; r < values.size(); ++r) {
    auto same =
        std::find_if(groups.begin(), groups.end(), [&](const auto& g) { return g.first == values[r]; });
    if (same == groups.end()) same = groups.insert(groups.end(), {values[r], {}});
    same->second.push_back(static_cast<int>(r));
  }
  if (groups.size() == 1) return;
  std::string text = "[comm] " + what + " differs between ranks:";
  for (size_t g = 0; g < groups.size() && g < 4; ++g)
    text += (g ? ", " : " ") + ranges(groups[g].second) + (groups[g].second.size() > 1 ? " have " : " has ") +
            shortened(groups[g].first);
  if (groups.size() > 4) text += ", and " + std::to_string(groups.size() - 4) + " more";
  refuse_together(comm, Error(Code::input, text + "; start every rank with the same"));
}

void fail_together(Comm& comm, const std::optional<Error>& mine, CommLabel label) {
  if (comm.size() == 1) {
    if (mine) throw *mine;
    return;
  }
  // The common case, that nobody failed, costs one small reduction.
  if (all_reduce_one(comm, mine ? 1 : 0, CommOp::max, label) == 0) return;
  const std::string text = mine ? std::to_string(static_cast<int>(mine->code)) + " " + mine->what() : "";
  const std::vector<std::string> texts = all_gather_text(comm, std::string_view(text).substr(0, 4096), label);
  for (size_t r = 0; r < texts.size(); ++r) {
    if (texts[r].empty()) continue;
    const size_t space = texts[r].find(' ');
    refuse_together(comm, Error(static_cast<Code>(std::stoi(texts[r])),
                                "rank " + std::to_string(r) + ": " + texts[r].substr(space + 1)));
  }
}

void together(Comm& comm, CommLabel label, const std::function<void()>& work) {
  std::optional<Error> mine;
  try {
    work();
  } catch (const std::exception& e) {
    mine = error_of(e);
  }
  fail_together(comm, mine, label);
}

int64_t all_reduce_one(Comm& comm, int64_t value, CommOp op, CommLabel label) {
  comm.all_reduce(std::span<int64_t>(&value, 1), op, label);
  return value;
}

}  // namespace llmctl
