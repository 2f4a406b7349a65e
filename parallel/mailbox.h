// SPDX-License-Identifier: Apache-2.0
// Where the messages for one rank meet its receives. A small message arrives with its bytes; a large one
// is offered, and its bytes move once a receive has taken the offer, straight to their place.
//
// Threads: any. What a Receive points to is touched under the mutex, or by the one who took its offer.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <list>
#include <map>
#include <mutex>
#include <vector>

#include "parallel/transport.h"

namespace llmctl {

class Mailbox {
 public:
  struct Receive {
    int from;
    Channel channel;
    std::span<std::byte> into;
    Combine how;
    enum class State : uint8_t { posted, taken, finished } state = State::posted;  // under the mutex
    std::atomic<bool> finished{false};
    std::string error;  // written before finished
  };
  // A large message of a peer: `source` and `id` mean something to the engine.
  struct Offer {
    std::shared_ptr<void> source;
    uint64_t id = 0;
  };
  struct Match {
    std::shared_ptr<Receive> receive;
    Offer offer;
  };

  // ranks: of the world, which decides how long waits spin.
  Mailbox(int rank, int ranks);

  // A new receive. When an offer waits for it, the state is `taken` and the offer is in *offer.
  std::shared_ptr<Receive> post(int from, Channel channel, std::span<std::byte> into, Combine how,
                                Offer* offer);
  // A small message came.
  void deliver(int from, Channel channel, std::span<const std::byte> data);
  // A large message of `bytes` is offered: the receive that takes it, or null and the offer is kept.
  std::shared_ptr<Receive> offer(int from, Channel channel, uint64_t bytes, const Offer& offer);
  // The taken receive has its bytes.
  void finish(Receive& receive);
  // Forgets a posted receive. False when its offer is taken: its end must be waited for.
  bool withdraw(Receive& receive);
  // Forgets an offer nobody took. False when it is not there.
  bool withdraw_offer(const void* source);

  // Every wait from now on fails with `why`; with a peer, those for that peer. The first reason stays.
  void fail(const std::string& why);
  void fail_peer(int peer, const std::string& why);
  // What a wait for `peer` fails with now, if anything.
  std::string failure(int peer);
  void notify();

  // Until `flag`, a failure or the deadline. progress() is called without the lock while waiting and
  // says whether it did anything; `work_waits()` says under the lock whether there is some.
  template <class Progress, class WorkWaits>
  Transport::Outcome wait(const std::atomic<bool>& flag, int peer, CommClock::time_point deadline,
                          std::string& why, Progress&& progress, WorkWaits&& work_waits) {
    for (const auto parks = CommClock::now() + spin_; CommClock::now() < parks;) {
      if (flag.load(std::memory_order_acquire)) return Transport::Outcome::done;
      if (!progress()) pause();
    }
    std::unique_lock lock(mutex_);
    while (!flag.load(std::memory_order_acquire)) {
      if (work_waits()) {
        lock.unlock();
        progress();
        lock.lock();
        continue;
      }
      if (failed(peer, why)) return Transport::Outcome::failed;
      if (CommClock::now() >= deadline) return Transport::Outcome::pending;
      changed_.wait_until(lock, deadline);
    }
    return Transport::Outcome::done;
  }
  std::mutex& mutex() { return mutex_; }

 private:
  struct Arrival {
    int from;
    Channel channel;
    uint64_t bytes;
    std::vector<std::byte> data;
    bool offered;
    Offer offer;
  };
  static void pause();
  bool failed(int peer, std::string& why) const;
  bool agree(Receive& receive, Channel channel, uint64_t bytes);
  std::shared_ptr<Receive> take_posted(int from, Channel channel);
  void finish_locked(Receive& receive);

  const int rank_;
  const CommClock::duration spin_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::list<std::shared_ptr<Receive>> posted_;
  std::list<Arrival> arrived_;
  std::string failure_;
  std::map<int, std::string> peer_failures_;
};

}  // namespace llmctl
