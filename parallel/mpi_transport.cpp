// SPDX-License-Identifier: Apache-2.0
#include "parallel/mpi_transport.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <mutex>
#include <thread>
#include <vector>

#include "parallel/mpi_library.h"

namespace llmctl {
namespace {

// Messages travel in pieces, so that no count passes 31 bits and sums need little room beside.
constexpr size_t kPiece = 256 << 10, kRooms = 2, kReason = 4096;
constexpr uint32_t kAbandonTag = (Channel::kContexts - 1) << 20;

class MpiTransport final : public Transport {
 public:
  MpiTransport() {
    std::string why;
    const mpi::Library* library = mpi::open_library(why);
    check(library != nullptr, Code::unsupported, "[mpi] Open MPI is not here: ", why);
    mpi_ = library;
    int there = 0, level = 0;
    mpi_->initialized(&there);
    check(there == 0, Code::bug, "[mpi] a second world in one process");
    check(mpi_->init_thread(nullptr, nullptr, mpi::kSerialized, &level) == 0, Code::device,
          "[mpi] MPI_Init failed");
    check(level >= mpi::kSerialized, Code::unsupported,
          "[mpi] the library allows calls from one thread only");
    mpi_->comm_set_errhandler(mpi_->world, mpi_->errors_return);
    mpi_->comm_rank(mpi_->world, &rank_);
    mpi_->comm_size(mpi_->world, &size_);
    int* most = nullptr;
    if (mpi_->comm_get_attr(mpi_->world, mpi::kTagUb, &most, &there) == 0 && there != 0) tag_ub_ = *most;
    const auto tag = static_cast<int>(kAbandonTag);
    if (tag <= tag_ub_)
      mpi_->irecv(reason_.data(), static_cast<int>(kReason), mpi_->byte, mpi::kAnySource, tag, mpi_->world,
                  &listening_);
    spin_ = std::chrono::microseconds(
        static_cast<unsigned>(size_) <= std::thread::hardware_concurrency() ? 300 : 5);
  }

  // Without its end, the launcher knows that this rank failed.
  ~MpiTransport() override {
    const std::lock_guard lock(mutex_);
    if (abandoned_ || !failure_.empty()) return;
    if (listening_) {
      mpi_->cancel(&listening_);
      mpi_->request_free(&listening_);
    }
    mpi_->finalize();
  }

  const char* engine() const override { return "mpi"; }
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  bool shared_memory() const override { return false; }

  std::unique_ptr<Op> send(int to, Channel channel, std::span<const std::byte> data) override {
    auto op = std::make_unique<Message>(*this, to, tag_of(channel), data.size());
    op->from = data;
    op->sends = true;
    const std::lock_guard lock(mutex_);
    while (op->posted < op->pieces()) start(*op);
    return op;
  }

  std::unique_ptr<Op> receive(int from, Channel channel, std::span<std::byte> data, Combine how) override {
    auto op = std::make_unique<Message>(*this, from, tag_of(channel), data.size());
    op->into = data;
    op->how = how;
    const std::lock_guard lock(mutex_);
    // What is added passes through rooms of its own, a few pieces at a time.
    const size_t most = how == Combine::copy ? op->pieces() : std::min(op->pieces(), kRooms);
    while (op->posted < most) start(*op);
    return op;
  }

  Outcome wait(Op& op, CommClock::time_point deadline, std::string& why) override {
    auto& m = static_cast<Message&>(op);
    const auto spins = CommClock::now() + spin_;
    auto nap = std::chrono::microseconds(10);
    while (true) {
      bool moved = false;
      {
        const std::lock_guard lock(mutex_);
        if (m.error.empty()) moved = advance(m);
        why = m.error.empty() ? failure_ : m.error;
        if (m.error.empty() && m.finished == m.pieces()) return Outcome::done;
        if (!why.empty()) return Outcome::failed;
      }
      const auto now = CommClock::now();
      if (now >= deadline) return Outcome::pending;
      if (moved || now < spins) continue;
      listen();
      std::this_thread::sleep_for(nap);
      nap = std::min(nap * 2, std::chrono::microseconds(200));
    }
  }

  void note_call(uint32_t, uint64_t) override {}
  std::optional<uint64_t> call_of(int, uint32_t) const override { return std::nullopt; }

  void abandon(const std::string& reason) noexcept override {
    const std::lock_guard lock(mutex_);
    if (abandoned_ || static_cast<int>(kAbandonTag) > tag_ub_) return;
    abandoned_ = true;
    // Who gives up because of another passes the first cause on. The text outlives sends that are under way.
    said_ = failure_.empty() ? "rank " + std::to_string(rank_) + " gave up: " + reason : failure_;
    said_.resize(std::min(said_.size(), kReason));
    std::vector<mpi::Handle> requests(static_cast<size_t>(size_), nullptr);
    for (int peer = 0; peer < size_; ++peer)
      if (peer != rank_)
        mpi_->isend(said_.data(), static_cast<int>(said_.size()), mpi_->byte, peer,
                    static_cast<int>(kAbandonTag), mpi_->world, &requests[static_cast<size_t>(peer)]);
    const auto until = CommClock::now() + std::chrono::milliseconds(500);
    for (mpi::Handle& request : requests)
      for (int done = request ? 0 : 1; done == 0 && CommClock::now() < until;)
        if (mpi_->test(&request, &done, &status_) != 0) break;
  }

 private:
  struct Message final : Op {
    Message(MpiTransport& t, int p, int g, size_t n) : transport(t), peer(p), tag(g), bytes(n) {
      requests.resize(pieces(), nullptr);
    }
    ~Message() override { transport.drop(*this); }
    size_t pieces() const { return std::max<size_t>(1, (bytes + kPiece - 1) / kPiece); }
    size_t size_of_piece(size_t i) const { return std::min(kPiece, bytes - i * kPiece); }
    MpiTransport& transport;
    int peer, tag;
    size_t bytes;
    std::span<const std::byte> from;
    std::span<std::byte> into;
    Combine how = Combine::copy;
    bool sends = false;
    std::vector<mpi::Handle> requests;
    std::array<std::vector<std::byte>, kRooms> rooms;  // of pieces that are added
    size_t posted = 0, finished = 0;
    std::string error;
  };

  // The kind of a collective is in its tag, so that ranks in different calls do not take each other's bytes.
  int tag_of(Channel c) const {
    uint32_t bits = c.bits;
    if (c.kind != CommKind::point)
      bits = (bits & ~0x7ffffu) | static_cast<uint32_t>(c.kind) << 16 | (bits & 0xffffu);
    check(static_cast<int64_t>(bits) <= tag_ub_, Code::unsupported, "[mpi] tag ", bits,
          " of too many groups; this MPI's end at ", tag_ub_);
    return static_cast<int>(bits);
  }

  std::string text_of(int code) const {
    char text[mpi::kErrorText] = "";
    int length = 0;
    mpi_->error_string(code, text, &length);
    return text;
  }

  void start(Message& m) {
    const size_t i = m.posted++, size = m.size_of_piece(i);
    const int count = static_cast<int>(size);
    int code;
    if (m.sends) {
      code = mpi_->isend(m.from.data() + i * kPiece, count, mpi_->byte, m.peer, m.tag, mpi_->world,
                         &m.requests[i]);
    } else {
      std::byte* place = m.into.data() + i * kPiece;
      if (m.how != Combine::copy) {
        std::vector<std::byte>& room = m.rooms[i % kRooms];
        if (room.empty()) room = take_room();
        place = room.data();
      }
      code = mpi_->irecv(place, count, mpi_->byte, m.peer, m.tag, mpi_->world, &m.requests[i]);
    }
    if (code != 0 && m.error.empty()) m.error = text_of(code);
  }

  // Takes finished pieces in order. True when something was.
  bool advance(Message& m) {
    bool moved = false;
    while (m.finished < m.posted) {
      const size_t i = m.finished;
      mpi::Status status{};
      int done = 0;
      const int code = mpi_->test(&m.requests[i], &done, &status);
      if (code != 0) {
        m.error = "rank " + std::to_string(m.peer) + ": " + text_of(code);
        return true;
      }
      if (done == 0) return moved;
      if (!m.sends && !accept(m, i, status)) return true;
      ++m.finished;
      moved = true;
    }
    return moved;
  }

  bool accept(Message& m, size_t i, const mpi::Status& status) {
    int came = 0;
    mpi_->get_count(&status, mpi_->byte, &came);
    const size_t size = m.size_of_piece(i);
    if (static_cast<size_t>(came) != size) {
      m.error = "rank " + std::to_string(m.peer) + " sent " + std::to_string(came) + " bytes where " +
                std::to_string(size) + " were expected";
      return false;
    }
    if (m.how == Combine::copy) return true;
    combine(m.how, m.into.subspan(i * kPiece, size), std::span(m.rooms[i % kRooms]).first(size));
    if (m.posted < m.pieces()) start(m);
    return true;
  }

  std::vector<std::byte> take_room() {
    if (free_.empty()) return std::vector<std::byte>(kPiece);
    std::vector<std::byte> room = std::move(free_.back());
    free_.pop_back();
    return room;
  }

  void drop(Message& m) {
    const std::lock_guard lock(mutex_);
    for (size_t i = m.finished; i < m.posted; ++i) {
      if (!m.requests[i]) continue;
      int done = 0;
      if (m.sends) {
        mpi_->test(&m.requests[i], &done, &status_);
        if (done == 0 && failure_.empty()) failure_ = "a message was given up";
        continue;
      }
      mpi_->cancel(&m.requests[i]);
      const auto until = CommClock::now() + std::chrono::milliseconds(200);
      while (done == 0 && CommClock::now() < until)
        if (mpi_->test(&m.requests[i], &done, &status_) != 0) break;
    }
    for (std::vector<std::byte>& room : m.rooms)
      if (!room.empty()) free_.push_back(std::move(room));
  }

  // Has another rank given up?
  void listen() {
    const std::lock_guard lock(mutex_);
    if (!listening_ || !failure_.empty()) return;
    mpi::Status status{};
    int done = 0, bytes = 0;
    if (mpi_->test(&listening_, &done, &status) != 0 || done == 0) return;
    listening_ = nullptr;
    mpi_->get_count(&status, mpi_->byte, &bytes);
    failure_.assign(reason_.data(), static_cast<size_t>(std::max(bytes, 0)));
  }

  const mpi::Library* mpi_ = nullptr;
  std::mutex mutex_;  // of every call of the library
  int rank_ = 0, size_ = 1;
  int64_t tag_ub_ = 32767;
  CommClock::duration spin_{};
  std::array<char, kReason> reason_{};
  mpi::Handle listening_ = nullptr;
  mpi::Status status_{};
  std::string failure_, said_;
  bool abandoned_ = false;
  std::vector<std::vector<std::byte>> free_;
};

}  // namespace

bool mpi_available() {
  std::string why;
  return mpi::open_library(why) != nullptr;
}

std::shared_ptr<Transport> mpi_transport() {
  return std::make_shared<MpiTransport>();
}

}  // namespace llmctl
