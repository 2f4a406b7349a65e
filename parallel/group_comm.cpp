// SPDX-License-Identifier: Apache-2.0
#include "parallel/group_comm.h"

#include <algorithm>
#include <numeric>

#include "parallel/group_call.h"

namespace llmctl {
namespace {

CommClock::time_point after(double seconds) {
  return CommClock::now() +
         std::chrono::duration_cast<CommClock::duration>(std::chrono::duration<double>(seconds));
}

std::string quoted(std::string_view what, int64_t step) {
  return " '" + std::string(what) + "'" + (step >= 0 ? " step " + std::to_string(step) : "");
}

}  // namespace

GroupComm::GroupComm(std::shared_ptr<Transport> transport, std::vector<int> members, uint32_t context,
                     std::string name, double timeout)
    : transport_(std::move(transport)),
      members_(std::move(members)),
      context_(context),
      name_(std::move(name)),
      timeout_(timeout) {
  const auto me = std::find(members_.begin(), members_.end(), transport_->rank());
  check(me != members_.end(), Code::bug, "[comm] rank ", transport_->rank(), " is not of group ", name_);
  rank_ = static_cast<int>(me - members_.begin());
}

std::unique_ptr<Comm> GroupComm::world(std::shared_ptr<Transport> transport, double timeout) {
  std::vector<int> all(static_cast<size_t>(transport->size()));
  std::iota(all.begin(), all.end(), 0);
  return std::make_unique<GroupComm>(std::move(transport), std::move(all), 0, "world", timeout);
}

// Peers whose last known call of this group is before ours; if none is known, the one waited for.
std::string GroupComm::missing(int waited_for, uint64_t call) const {
  std::string late;
  int count = 0;
  for (const int peer : members_) {
    if (peer == transport_->rank()) continue;
    const std::optional<uint64_t> theirs = transport_->call_of(peer, context_);
    if (!theirs || *theirs >= call) continue;
    if (++count <= 8) late += (late.empty() ? "" : ", ") + std::to_string(peer);
  }
  if (count > 8) late += " and " + std::to_string(count - 8) + " more";
  if (count == 0) late = std::to_string(members_[static_cast<size_t>(waited_for)]);
  return late;
}

void GroupComm::finish(Transport::Op& op, CommKind kind, std::string_view what, int64_t step, int peer,
                       uint64_t call) {
  std::string why;
  const Transport::Outcome outcome = transport_->wait(op, after(timeout_), why);
  if (outcome == Transport::Outcome::done) return;
  const std::string where = "[comm] rank " + std::to_string(transport_->rank()) + " of " +
                            std::to_string(transport_->size()) + ", " + name_of(kind) + quoted(what, step) +
                            " in group " + name_ + ": ";
  if (outcome == Transport::Outcome::failed) throw Error(Code::device, where + why);
  std::ostringstream seconds;
  seconds << timeout_;
  const std::string who =
      kind == CommKind::point ? std::to_string(members_[static_cast<size_t>(peer)]) : missing(peer, call);
  throw Error(Code::device, where + "nothing came for " + seconds.str() + " s; missing: rank " + who);
}

GroupComm::Call::Call(GroupComm& group, CommKind kind, CommLabel label)
    : group_(group),
      kind_(kind),
      label_(label),
      number_(++group.calls_),
      channel_(Channel::collective(group.context_, number_, kind)) {
  ++group_.counts_[kind].calls;
  group_.transport_->note_call(group_.context_, number_);
}

void GroupComm::Call::send(int to, std::span<const std::byte> data) {
  CommCount& count = group_.counts_[kind_];
  ++count.messages;
  count.bytes += static_cast<int64_t>(data.size());
  ops_.push_back({group_.transport_->send(group_.members_[static_cast<size_t>(to)], channel_, data), to});
}

void GroupComm::Call::receive(int from, std::span<std::byte> data, Combine how) {
  ops_.push_back(
      {group_.transport_->receive(group_.members_[static_cast<size_t>(from)], channel_, data, how), from});
}

void GroupComm::Call::wait() {
  for (auto& [op, peer] : ops_) group_.finish(*op, kind_, label_.what, label_.step, peer, number_);
  ops_.clear();
}

struct GroupComm::Message final : CommHandle::Pending {
  Message(GroupComm& g, std::unique_ptr<Transport::Op> o, int p, CommLabel label)
      : group(g), op(std::move(o)), peer(p), what(label.what), step(label.step) {}
  bool done() override {
    std::string why;
    return group.transport_->wait(*op, {}, why) != Transport::Outcome::pending;
  }
  void wait() override { group.finish(*op, CommKind::point, what, step, peer, 0); }
  GroupComm& group;
  std::unique_ptr<Transport::Op> op;
  int peer;
  std::string what;
  int64_t step;
};

void GroupComm::check_peer(int peer, int tag, CommLabel label) const {
  check(peer >= 0 && peer < size() && peer != rank_, Code::bug, "[comm] ", label.what,
        ": a message between rank ", rank_, " and rank ", peer, " in a group of ", size());
  check(tag >= 0 && tag <= kMaxTag, Code::bug, "[comm] ", label.what, ": tag ", tag, ", at most ",
        int{kMaxTag});
}

CommHandle GroupComm::isend(std::span<const std::byte> data, int to, int tag, CommLabel label) {
  check_peer(to, tag, label);
  CommCount& count = counts_[CommKind::point];
  ++count.calls;
  ++count.messages;
  count.bytes += static_cast<int64_t>(data.size());
  auto op = transport_->send(members_[static_cast<size_t>(to)], Channel::message(context_, tag), data);
  return CommHandle(std::make_unique<Message>(*this, std::move(op), to, label));
}

CommHandle GroupComm::irecv(std::span<std::byte> data, int from, int tag, CommLabel label) {
  check_peer(from, tag, label);
  ++counts_[CommKind::point].calls;
  auto op = transport_->receive(members_[static_cast<size_t>(from)], Channel::message(context_, tag), data,
                                Combine::copy);
  return CommHandle(std::make_unique<Message>(*this, std::move(op), from, label));
}

// Groups of one split share a number: no pair of ranks is in two of them.
std::unique_ptr<Comm> GroupComm::split(int color, int key, const std::string& name) {
  struct Wish {
    int64_t color, key, next_context;
  };
  std::vector<Wish> wishes(members_.size());
  std::vector<int64_t> borders(members_.size() + 1);
  for (size_t r = 0; r < borders.size(); ++r) borders[r] = static_cast<int64_t>(r * sizeof(Wish));
  const Wish mine{color, key, transport_->next_context};
  all_gather(std::as_bytes(std::span(&mine, 1)), writable_bytes_of(std::span(wishes)), borders,
             "split " + name);
  int64_t context = 0;
  for (const Wish& w : wishes) context = std::max(context, w.next_context);
  check(context < Channel::kContexts, Code::unsupported, "[comm] more than ", uint32_t{Channel::kContexts},
        " groups");
  transport_->next_context = static_cast<uint32_t>(context) + 1;
  if (color < 0) return nullptr;
  std::vector<size_t> order;
  for (size_t r = 0; r < wishes.size(); ++r)
    if (wishes[r].color == color) order.push_back(r);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return wishes[a].key < wishes[b].key; });
  if (order.size() == 1) return solo_comm(name);
  std::vector<int> members;
  for (const size_t r : order) members.push_back(members_[r]);
  return std::make_unique<GroupComm>(transport_, std::move(members), static_cast<uint32_t>(context), name,
                                     timeout_);
}

}  // namespace llmctl
