// SPDX-License-Identifier: Apache-2.0
#include "parallel/thread_world.h"

#include <array>
#include <exception>
#include <thread>

#include "kernels/exec.h"
#include "parallel/group_comm.h"
#include "parallel/mailbox.h"

namespace llmctl {
namespace {

constexpr size_t kSmall = 4096;  // such messages are left with the receiver, and the send is done
constexpr size_t kBoard = 64;

struct ThreadHub;

// A message that its receiver will take from here.
struct Outgoing {
  std::span<const std::byte> data;
  int from = 0;
  std::atomic<bool> finished{false};
};

struct Desk {  // of one rank
  Desk(int rank, int ranks) : box(rank, ranks) {}
  Mailbox box;
  std::deque<Mailbox::Match> ready;  // under box's mutex: to be copied by a thread of this rank
  std::atomic<int> ready_count{0};
  std::mutex adding;  // two messages may be added to one place, by two threads of this rank
  std::array<std::atomic<uint64_t>, kBoard> calls{};
};

struct ThreadHub {
  explicit ThreadHub(int ranks) {
    for (int r = 0; r < ranks; ++r) desks.push_back(std::make_unique<Desk>(r, ranks));
  }
  std::vector<std::unique_ptr<Desk>> desks;
  std::mutex mutex;
  int first_failed = -1;  // the rank whose error is the cause
};

class ThreadTransport final : public Transport {
 public:
  ThreadTransport(std::shared_ptr<ThreadHub> hub, int rank) : hub_(std::move(hub)), rank_(rank) {}
  ~ThreadTransport() override {
    for (auto& desk : hub_->desks)
      if (desk.get() != &mine()) desk->box.fail_peer(rank_, "rank " + std::to_string(rank_) + " has left");
  }
  const char* engine() const override { return "threads"; }
  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(hub_->desks.size()); }
  bool shared_memory() const override { return true; }

  std::unique_ptr<Op> send(int to, Channel channel, std::span<const std::byte> data) override {
    auto op = std::make_unique<Send>(*this, to);
    Desk& desk = desk_of(to);
    if (data.size() <= kSmall) {
      desk.box.deliver(rank_, channel, data);
      op->out->finished = true;
      return op;
    }
    op->out->data = data;
    op->out->from = rank_;
    if (auto receive = desk.box.offer(rank_, channel, data.size(), {op->out, 0}))
      make_ready(desk, {std::move(receive), {op->out, 0}});
    return op;
  }

  std::unique_ptr<Op> receive(int from, Channel channel, std::span<std::byte> data, Combine how) override {
    Mailbox::Offer offer;
    auto op = std::make_unique<Receive>(*this, from);
    op->receive = mine().box.post(from, channel, data, how, &offer);
    if (offer.source) make_ready(mine(), {op->receive, offer});
    return op;
  }

  Outcome wait(Op& op, CommClock::time_point deadline, std::string& why) override {
    if (auto* out = dynamic_cast<Send*>(&op)) return wait_flag(out->out->finished, out->peer, deadline, why);
    auto& in = static_cast<Receive&>(op);
    const Outcome outcome = wait_flag(in.receive->finished, in.peer, deadline, why);
    if (outcome != Outcome::done || in.receive->error.empty()) return outcome;
    why = in.receive->error;
    return Outcome::failed;
  }

  void note_call(uint32_t context, uint64_t call) override { mine().calls[context % kBoard] = call; }
  std::optional<uint64_t> call_of(int peer, uint32_t context) const override {
    return context < kBoard ? std::optional(hub_->desks[static_cast<size_t>(peer)]->calls[context].load())
                            : std::nullopt;
  }
  void abandon(const std::string& reason) noexcept override {
    {
      const std::lock_guard lock(hub_->mutex);
      if (hub_->first_failed < 0) hub_->first_failed = rank_;
    }
    // Who gives up because of another passes the first cause on.
    const std::string cause = mine().box.failure(rank_);
    const std::string said = cause.empty() ? "rank " + std::to_string(rank_) + " gave up: " + reason : cause;
    for (auto& desk : hub_->desks)
      if (desk.get() != &mine()) desk->box.fail(said);
  }

 private:
  struct Send final : Op {
    Send(ThreadTransport& t, int to) : transport(t), peer(to), out(std::make_shared<Outgoing>()) {}
    ~Send() override { transport.drop(*this); }
    ThreadTransport& transport;
    int peer;
    std::shared_ptr<Outgoing> out;
  };
  struct Receive final : Op {
    Receive(ThreadTransport& t, int from) : transport(t), peer(from) {}
    ~Receive() override { transport.drop(*this); }
    ThreadTransport& transport;
    int peer;
    std::shared_ptr<Mailbox::Receive> receive;
  };

  Desk& desk_of(int rank) { return *hub_->desks[static_cast<size_t>(rank)]; }
  Desk& mine() { return desk_of(rank_); }

  static void make_ready(Desk& desk, Mailbox::Match match) {
    {
      const std::lock_guard lock(desk.box.mutex());
      desk.ready.push_back(std::move(match));
      desk.ready_count.fetch_add(1);
    }
    desk.box.notify();
  }

  // Copies one message that was matched; false when there is none.
  bool copy_ready() {
    Desk& desk = mine();
    if (desk.ready_count.load(std::memory_order_acquire) == 0) return false;
    Mailbox::Match match;
    {
      const std::lock_guard lock(desk.box.mutex());
      if (desk.ready.empty()) return false;
      match = std::move(desk.ready.front());
      desk.ready.pop_front();
      desk.ready_count.fetch_sub(1);
    }
    auto& out = *static_cast<Outgoing*>(match.offer.source.get());
    {
      std::unique_lock lock(desk.adding, std::defer_lock);
      if (match.receive->how != Combine::copy) lock.lock();
      combine(match.receive->how, match.receive->into, out.data);
    }
    desk.box.finish(*match.receive);
    out.finished.store(true, std::memory_order_release);
    desk_of(out.from).box.notify();
    return true;
  }

  Outcome wait_flag(const std::atomic<bool>& flag, int peer, CommClock::time_point deadline,
                    std::string& why) {
    Desk& desk = mine();
    return desk.box.wait(
        flag, peer, deadline, why, [this] { return copy_ready(); }, [&desk] { return !desk.ready.empty(); });
  }

  // Takes back a message from a receiver's list of work; false when it is not there, or in hand.
  static bool take_back(Desk& desk, const Send& op) {
    std::shared_ptr<Mailbox::Receive> receive;
    {
      const std::lock_guard lock(desk.box.mutex());
      for (auto m = desk.ready.begin(); m != desk.ready.end() && !receive; ++m) {
        if (m->offer.source != op.out) continue;
        receive = m->receive;
        desk.ready.erase(m);
        desk.ready_count.fetch_sub(1);
        break;
      }
    }
    if (!receive) return false;
    receive->error = "the message was given up by its sender";
    desk.box.finish(*receive);
    return true;
  }

  void drop(Send& op) {
    if (op.out->finished) return;
    Desk& desk = desk_of(op.peer);
    if (desk.box.withdraw_offer(op.out.get()) || take_back(desk, op)) return;
    // Another thread holds it: it copies now, or has refused it for its size.
    while (op.out.use_count() > 1 && !op.out->finished) std::this_thread::yield();
  }
  void drop(Receive& op) {
    if (!op.receive || op.receive->finished || mine().box.withdraw(*op.receive)) return;
    while (!op.receive->finished)
      if (!copy_ready()) std::this_thread::yield();
  }

  std::shared_ptr<ThreadHub> hub_;
  const int rank_;
};

}  // namespace

void run_threads(int ranks, double timeout, const std::function<void(Comm&)>& rank_main) {
  if (ranks == 1) return rank_main(*solo_comm());
  auto hub = std::make_shared<ThreadHub>(ranks);
  std::vector<std::exception_ptr> errors(static_cast<size_t>(ranks));
  std::vector<std::thread> threads;
  for (int r = 0; r < ranks; ++r)
    threads.emplace_back([&, r] {
      kn::set_denormals_are_zero();
      const auto transport = std::make_shared<ThreadTransport>(hub, r);
      try {
        rank_main(*GroupComm::world(transport, timeout));
      } catch (const std::exception& e) {
        errors[static_cast<size_t>(r)] = std::current_exception();
        transport->abandon(e.what());
      }
    });
  for (std::thread& t : threads) t.join();
  if (hub->first_failed >= 0 && errors[static_cast<size_t>(hub->first_failed)])
    std::rethrow_exception(errors[static_cast<size_t>(hub->first_failed)]);
  for (const std::exception_ptr& e : errors)
    if (e) std::rethrow_exception(e);
}

}  // namespace llmctl
