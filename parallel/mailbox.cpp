// SPDX-License-Identifier: Apache-2.0
#include "parallel/mailbox.h"

#include <algorithm>
#include <thread>

namespace llmctl {
namespace {

// With a core for each rank a message is worth some microseconds of spinning; else park at once. Yielding
// instead would give a loaded machine's time slices away.
CommClock::duration spin_for(int ranks) {
  return std::chrono::microseconds(static_cast<unsigned>(ranks) <= std::thread::hardware_concurrency() ? 30 : 1);
}

std::string said(Channel channel, uint64_t bytes) {
  return std::string(name_of(channel.kind)) + " of " + std::to_string(bytes) + " bytes";
}

}  // namespace

Mailbox::Mailbox(int rank, int ranks) : rank_(rank), spin_(spin_for(ranks)) {}

void Mailbox::pause() {
  for (int i = 0; i < 8; ++i) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
  }
}

bool Mailbox::failed(int peer, std::string& why) const {
  if (!failure_.empty()) {
    why = failure_;
    return true;
  }
  const auto reason = peer_failures_.find(peer);
  if (reason == peer_failures_.end()) return false;
  why = reason->second;
  return true;
}

std::string Mailbox::failure(int peer) {
  const std::lock_guard lock(mutex_);
  std::string why;
  failed(peer, why);
  return why;
}

// Two ranks that are in different calls, or in one call with different sizes, must learn it.
bool Mailbox::agree(Receive& receive, Channel channel, uint64_t bytes) {
  if (receive.channel.kind == channel.kind && receive.into.size() == bytes) return true;
  receive.error = "rank " + std::to_string(receive.from) + " is in " + said(channel, bytes) + " where rank " +
                  std::to_string(rank_) + " is in " + said(receive.channel, receive.into.size());
  finish_locked(receive);
  return false;
}

void Mailbox::finish_locked(Receive& receive) {
  receive.state = Receive::State::finished;
  receive.finished.store(true, std::memory_order_release);
  changed_.notify_all();
}

void Mailbox::finish(Receive& receive) {
  const std::lock_guard lock(mutex_);
  finish_locked(receive);
}

std::shared_ptr<Mailbox::Receive> Mailbox::take_posted(int from, Channel channel) {
  const auto found = std::find_if(posted_.begin(), posted_.end(), [&](const auto& r) {
    return r->from == from && r->channel.bits == channel.bits;
  });
  if (found == posted_.end()) return nullptr;
  std::shared_ptr<Receive> receive = std::move(*found);
  posted_.erase(found);
  return receive;
}

std::shared_ptr<Mailbox::Receive> Mailbox::post(int from, Channel channel, std::span<std::byte> into,
                                                Combine how, Offer* offer) {
  auto receive = std::make_shared<Receive>();
  receive->from = from;
  receive->channel = channel;
  receive->into = into;
  receive->how = how;
  const std::lock_guard lock(mutex_);
  const auto found = std::find_if(arrived_.begin(), arrived_.end(), [&](const Arrival& a) {
    return a.from == from && a.channel.bits == channel.bits;
  });
  if (found == arrived_.end()) {
    posted_.push_back(receive);
    return receive;
  }
  const Arrival arrival = std::move(*found);
  arrived_.erase(found);
  if (!agree(*receive, arrival.channel, arrival.bytes)) return receive;
  if (arrival.offered) {
    receive->state = Receive::State::taken;
    *offer = arrival.offer;
  } else {
    combine(how, into, arrival.data);
    finish_locked(*receive);
  }
  return receive;
}

void Mailbox::deliver(int from, Channel channel, std::span<const std::byte> data) {
  const std::lock_guard lock(mutex_);
  if (const std::shared_ptr<Receive> receive = take_posted(from, channel)) {
    if (!agree(*receive, channel, data.size())) return;
    combine(receive->how, receive->into, data);
    finish_locked(*receive);
  } else {
    arrived_.push_back({from, channel, data.size(), {data.begin(), data.end()}, false, {}});
  }
}

std::shared_ptr<Mailbox::Receive> Mailbox::offer(int from, Channel channel, uint64_t bytes,
                                                 const Offer& offer) {
  const std::lock_guard lock(mutex_);
  std::shared_ptr<Receive> receive = take_posted(from, channel);
  if (!receive) {
    arrived_.push_back({from, channel, bytes, {}, true, offer});
    return nullptr;
  }
  if (!agree(*receive, channel, bytes)) return nullptr;
  receive->state = Receive::State::taken;
  return receive;
}

bool Mailbox::withdraw(Receive& receive) {
  const std::lock_guard lock(mutex_);
  if (receive.state == Receive::State::taken) return false;
  posted_.remove_if([&](const auto& r) { return r.get() == &receive; });
  receive.state = Receive::State::finished;
  return true;
}

bool Mailbox::withdraw_offer(const void* source) {
  const std::lock_guard lock(mutex_);
  return arrived_.remove_if([&](const Arrival& a) { return a.offered && a.offer.source.get() == source; }) >
         0;
}

void Mailbox::fail(const std::string& why) {
  const std::lock_guard lock(mutex_);
  if (failure_.empty()) failure_ = why;
  changed_.notify_all();
}

void Mailbox::fail_peer(int peer, const std::string& why) {
  const std::lock_guard lock(mutex_);
  peer_failures_.try_emplace(peer, why);
  changed_.notify_all();
}

void Mailbox::notify() {
  const std::lock_guard lock(mutex_);
  changed_.notify_all();
}

}  // namespace llmctl
