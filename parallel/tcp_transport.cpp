// SPDX-License-Identifier: Apache-2.0
#include "parallel/tcp_transport.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>
#include <unordered_map>

#include "parallel/tcp_link.h"

namespace llmctl {
namespace {

constexpr uint32_t kWake = UINT32_MAX;
CommClock::duration seconds(double s) {
  return std::chrono::duration_cast<CommClock::duration>(std::chrono::duration<double>(s));
}

class TcpTransport final : public Transport {
 public:
  TcpTransport(const TcpOptions& options, std::vector<Socket> sockets)
      : options_(options),
        box_(options.rank, 1 << 20),
        epoll_(::epoll_create1(EPOLL_CLOEXEC)),
        wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    check(epoll_ && wake_, Code::device, "[comm] no epoll: ", std::strerror(errno));
    watch(wake_.fd(), kWake, EPOLLIN, EPOLL_CTL_ADD);
    for (Socket& s : sockets) {
      links_.push_back(std::make_unique<TcpLink>());
      TcpLink& link = *links_.back();
      link.socket = std::move(s);
      link.heard = CommClock::now();
      if (!link.socket) continue;
      link.host = address_of_peer(link.socket);
      watch(link.socket.fd(), static_cast<uint32_t>(links_.size() - 1), EPOLLIN | EPOLLRDHUP, EPOLL_CTL_ADD);
    }
    io_ = std::thread([this] { serve(); });
  }

  ~TcpTransport() override {
    if (!box_.failure(rank()).empty()) abandon("");
    if (!abandoned_)
      for (int peer = 0; peer < size(); ++peer) post(peer, frame(FrameType::bye, 0));
    linger();
    stop_ = true;
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(wake_.fd(), &one, sizeof one);
    io_.join();
  }

  const char* engine() const override { return "tcp"; }
  int rank() const override { return options_.rank; }
  int size() const override { return options_.size; }
  bool shared_memory() const override { return false; }

  std::unique_ptr<Op> send(int to, Channel channel, std::span<const std::byte> data) override {
    auto op = std::make_unique<Send>(*this, to);
    TcpLink::Frame f = frame(data.size() <= kTcpSmall ? FrameType::small : FrameType::offer, data.size());
    f.header.kind = static_cast<uint32_t>(channel.kind);
    f.header.channel = channel.bits;
    if (data.size() <= kTcpSmall) {
      f.own.assign(data.begin(), data.end());
      op->out->finished = true;
    } else {
      const std::lock_guard lock(mutex_);
      op->out->data = data;
      op->out->id = f.header.id = ++last_id_;
      offers_[op->out->id] = op->out;
    }
    post(to, std::move(f));
    return op;
  }

  std::unique_ptr<Op> receive(int from, Channel channel, std::span<std::byte> data, Combine how) override {
    auto op = std::make_unique<Receive>(*this, from);
    Mailbox::Offer offer;
    op->receive = box_.post(from, channel, data, how, &offer);
    if (offer.id != 0) take(from, offer.id, op->receive);
    return op;
  }

  Outcome wait(Op& op, CommClock::time_point deadline, std::string& why) override {
    const auto idle = [] { return false; };
    if (auto* out = dynamic_cast<Send*>(&op))
      return box_.wait(out->out->finished, out->peer, deadline, why, idle, idle);
    auto& in = static_cast<Receive&>(op);
    const Outcome outcome = box_.wait(in.receive->finished, in.peer, deadline, why, idle, idle);
    if (outcome != Outcome::done || in.receive->error.empty()) return outcome;
    why = in.receive->error;
    return Outcome::failed;
  }

  void note_call(uint32_t context, uint64_t call) override {
    if (context < kTcpBoard) calls_[context] = call;
  }
  std::optional<uint64_t> call_of(int peer, uint32_t context) const override {
    if (context >= kTcpBoard) return std::nullopt;
    return links_[static_cast<size_t>(peer)]->calls[context].load();
  }

  void abandon(const std::string& reason) noexcept override {
    if (abandoned_.exchange(true)) return;
    // Who gives up because of another passes the cause on.
    const std::string cause = box_.failure(rank());
    const std::string said = cause.empty() ? "rank " + std::to_string(rank()) + " gave up: " + reason : cause;
    const auto text = std::as_bytes(std::span(said)).first(std::min(said.size(), kTcpReason));
    for (int peer = 0; peer < size(); ++peer) {
      TcpLink::Frame f = frame(FrameType::abandon, text.size());
      f.own.assign(text.begin(), text.end());
      post(peer, std::move(f));
    }
  }

 private:
  struct Send final : Op {
    Send(TcpTransport& t, int to) : transport(t), peer(to), out(std::make_shared<TcpOutgoing>()) {}
    ~Send() override {
      if (!out->finished) transport.drop(*this);
    }
    TcpTransport& transport;
    int peer;
    std::shared_ptr<TcpOutgoing> out;
  };
  struct Receive final : Op {
    Receive(TcpTransport& t, int from) : transport(t), peer(from) {}
    ~Receive() override {
      if (receive && !receive->finished) transport.drop(*this);
    }
    TcpTransport& transport;
    int peer;
    std::shared_ptr<Mailbox::Receive> receive;
  };

  static TcpLink::Frame frame(FrameType type, size_t bytes) {
    TcpLink::Frame f;
    f.header.type = type;
    f.header.bytes = bytes;
    return f;
  }
  TcpLink& link_to(int peer) { return *links_[static_cast<size_t>(peer)]; }

  void watch(int fd, uint32_t id, uint32_t events, int how) {
    epoll_event e{};
    e.events = events;
    e.data.u32 = id;
    ::epoll_ctl(epoll_.fd(), how, fd, &e);
  }

  // Queues a frame and sends what goes at once. A broken connection is found by the reader.
  void post(int peer, TcpLink::Frame f) {
    TcpLink& link = link_to(peer);
    if (!link.socket) return;
    const std::lock_guard lock(link.mutex);
    if (link.shut) return;
    link.out.push_back(std::move(f));
    if (link.out.size() == 1 && !link.watched) drain(peer, link);
  }
  void drain(int peer, TcpLink& link) {
    std::string why;
    if (!link.flush(why)) link.out.clear();
    const bool waits = !link.out.empty();
    if (waits != link.watched)
      watch(link.socket.fd(), static_cast<uint32_t>(peer), EPOLLIN | EPOLLRDHUP | (waits ? EPOLLOUT : 0u),
            EPOLL_CTL_MOD);
    link.watched = waits;
  }

  // Asks a peer for the message it offered.
  void take(int from, uint64_t offer, std::shared_ptr<Mailbox::Receive> receive) {
    TcpLink::Frame f = frame(FrameType::take, 0);
    f.header.id = offer;
    {
      const std::lock_guard lock(mutex_);
      f.header.receive = ++last_id_;
      takes_[f.header.receive] = std::move(receive);
    }
    post(from, std::move(f));
  }

  void drop(Receive& op) {
    if (box_.withdraw(*op.receive)) return;
    const std::lock_guard io(io_mutex_);
    const std::lock_guard lock(mutex_);
    std::erase_if(takes_, [&](const auto& t) { return t.second == op.receive; });
    if (link_to(op.peer).target == op.receive) link_to(op.peer).target = nullptr;
  }
  void drop(Send& op) {
    const std::lock_guard io(io_mutex_);
    const std::lock_guard lock(mutex_);
    if (offers_.erase(op.out->id) > 0) return;
    TcpLink& link = link_to(op.peer);
    const std::lock_guard out(link.mutex);
    const auto f =
        std::find_if(link.out.begin(), link.out.end(), [&](const auto& x) { return x.source == op.out; });
    if (f == link.out.end()) return;
    if (f->written > 0) {  // half a message cannot be taken back
      link.shut = true;
      ::shutdown(link.socket.fd(), SHUT_RDWR);
    }
    link.out.erase(f);
  }

  // The I/O thread.
  void serve() {
    const auto beat = seconds(std::clamp(options_.silence / 5, 0.02, 1.0));
    auto next = CommClock::now(), last = next;
    while (!stop_) {
      epoll_event events[64];
      const int n =
          ::epoll_wait(epoll_.fd(), events, 64,
                       static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(beat).count()));
      const std::lock_guard io(io_mutex_);
      const auto now = CommClock::now();
      // This process was held up itself: no peer may be blamed for that.
      if (now - last > seconds(options_.silence / 2))
        for (auto& link : links_) link->heard = now;
      last = now;
      for (int i = 0; i < n; ++i) {
        if (events[i].data.u32 == kWake) continue;
        const auto peer = static_cast<int>(events[i].data.u32);
        if (events[i].events & EPOLLOUT) on_writable(peer);
        if (events[i].events & ~static_cast<uint32_t>(EPOLLOUT)) on_readable(peer);
      }
      if (now < next) continue;
      next = now + beat;
      for (int peer = 0; peer < size(); ++peer) check_life(peer, now);
    }
  }

  void check_life(int peer, CommClock::time_point now) {
    TcpLink& link = link_to(peer);
    if (!link.socket || link.life != TcpLink::Life::alive) return;
    if (now - link.heard > seconds(options_.silence)) {
      std::ostringstream why;
      why << "no sign of life for " << options_.silence << " s";
      return lose(peer, why.str());
    }
    TcpLink::Frame f = frame(FrameType::beat, kTcpBoard * sizeof(uint64_t));
    uint64_t calls[kTcpBoard];
    for (size_t i = 0; i < kTcpBoard; ++i) calls[i] = calls_[i];
    f.own.resize(sizeof calls);
    std::memcpy(f.own.data(), calls, sizeof calls);
    {
      const std::lock_guard lock(link.mutex);
      if (!link.out.empty()) return;  // bytes on their way are a sign of life
    }
    post(peer, std::move(f));
  }

  void on_writable(int peer) {
    TcpLink& link = link_to(peer);
    {
      const std::lock_guard lock(link.mutex);
      drain(peer, link);
    }
    box_.notify();
  }

  void lose(int peer, const std::string& why) {
    TcpLink& link = link_to(peer);
    if (link.life == TcpLink::Life::dead) return;
    const bool left = link.life == TcpLink::Life::leaving;
    link.life = TcpLink::Life::dead;
    watch(link.socket.fd(), 0, 0, EPOLL_CTL_DEL);
    if (!left) box_.fail("rank " + std::to_string(peer) + " (" + link.host + ") is gone: " + why);
    box_.notify();
  }

  void on_readable(int peer) {
    TcpLink& link = link_to(peer);
    for (int burst = 0; burst < 64 && link.life != TcpLink::Life::dead; ++burst) {
      const std::span<std::byte> place = link.place();
      const ssize_t n = ::recv(link.socket.fd(), place.data(), place.size(), MSG_DONTWAIT);
      if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
      if (n <= 0) return lose(peer, n == 0 ? "it closed the connection" : std::strerror(errno));
      link.heard = CommClock::now();
      link.have += static_cast<size_t>(n);
      if (link.have == sizeof(FrameHeader) && !begin(peer, link))
        return lose(peer, "it sent what no rank of llmctl sends");
      if (link.have > sizeof(FrameHeader) && link.target) link.absorb();
      if (link.have >= sizeof(FrameHeader) && link.have == sizeof(FrameHeader) + link.payload()) {
        end(peer, link);
        link.have = 0;
      }
    }
  }

  // A header is complete. False when it cannot be of a peer of ours.
  bool begin(int peer, TcpLink& link) {
    const FrameHeader& h = link.header;
    if (!link.admit()) return false;
    if (h.type != FrameType::data) return true;
    const std::lock_guard lock(mutex_);
    const auto found = takes_.find(h.receive);
    if (found == takes_.end()) return true;
    link.target = std::move(found->second);
    takes_.erase(found);
    return link.target->from == peer && link.target->into.size() == h.bytes;
  }

  // A frame is complete.
  void end(int peer, TcpLink& link) {
    const FrameHeader& h = link.header;
    const Channel channel{h.channel, static_cast<CommKind>(h.kind)};
    const auto stored = std::span(link.scratch).first(h.type == FrameType::data ? 0 : link.payload());
    switch (h.type) {
      case FrameType::small:
        return box_.deliver(peer, channel, stored);
      case FrameType::offer:
        if (auto receive = box_.offer(peer, channel, h.bytes, {nullptr, h.id}))
          take(peer, h.id, std::move(receive));
        return;
      case FrameType::take:
        return hand_over(peer, h);
      case FrameType::data:
        if (const auto target = std::move(link.target)) box_.finish(*target);
        link.target = nullptr;
        return;
      case FrameType::beat:
        for (size_t i = 0; i < kTcpBoard; ++i) {
          uint64_t call;
          std::memcpy(&call, stored.data() + i * sizeof call, sizeof call);
          link.calls[i] = call;
        }
        return;
      case FrameType::abandon:
        link.life = TcpLink::Life::leaving;
        return box_.fail({reinterpret_cast<const char*>(stored.data()), stored.size()});
      case FrameType::bye:
        link.life = TcpLink::Life::leaving;
        return box_.fail_peer(peer, "rank " + std::to_string(peer) + " has left");
    }
  }

  void hand_over(int peer, const FrameHeader& asked) {
    TcpLink::Frame f = frame(FrameType::data, 0);
    {
      const std::lock_guard lock(mutex_);
      const auto found = offers_.find(asked.id);
      if (found == offers_.end()) return;
      f.source = std::move(found->second);
      offers_.erase(found);
    }
    f.header.receive = asked.receive;
    f.header.bytes = f.source->data.size();
    post(peer, std::move(f));
    box_.notify();
  }

  // What was sent must arrive before the sockets close: a socket closed with unread bytes drops them. So
  // each side says it sends no more and reads until the other says so, for a while.
  void linger() {
    const auto until = CommClock::now() + seconds(abandoned_ ? 0.5 : 2);
    const auto each = [&](auto&& ready) {
      while (CommClock::now() < until && !std::all_of(links_.begin(), links_.end(), [&](const auto& l) {
               return !l->socket || l->life == TcpLink::Life::dead || ready(*l);
             }))
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    };
    each([](TcpLink& l) {
      const std::lock_guard lock(l.mutex);
      return l.out.empty();
    });
    for (auto& l : links_) {
      const std::lock_guard lock(l->mutex);
      l->shut = true;
      if (l->socket) ::shutdown(l->socket.fd(), SHUT_WR);
    }
    each([](TcpLink&) { return false; });
  }

  const TcpOptions options_;
  Mailbox box_;
  const Socket epoll_, wake_;  // descriptors
  std::vector<std::unique_ptr<TcpLink>> links_;
  std::array<std::atomic<uint64_t>, kTcpBoard> calls_{};
  std::mutex io_mutex_;  // held by the I/O thread while it works; taken first
  std::mutex mutex_;     // of the maps
  uint64_t last_id_ = 0;
  std::unordered_map<uint64_t, std::shared_ptr<TcpOutgoing>> offers_;
  std::unordered_map<uint64_t, std::shared_ptr<Mailbox::Receive>> takes_;
  std::atomic<bool> stop_{false}, abandoned_{false};
  std::thread io_;
};

}  // namespace

std::shared_ptr<Transport> tcp_transport(const TcpOptions& options, std::vector<Socket> sockets) {
  return std::make_shared<TcpTransport>(options, std::move(sockets));
}
std::shared_ptr<Transport> tcp_transport(const TcpOptions& options) {
  return tcp_transport(options, meet(options));
}

}  // namespace llmctl
