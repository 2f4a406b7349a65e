// SPDX-License-Identifier: Apache-2.0
#include "parallel/supervisor.h"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/random.h>
#include <sys/wait.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>

#include "core/base/clock.h"
#include "core/base/signal.h"
#include "core/train/checkpoint.h"
#include "parallel/capacity.h"
#include "parallel/rank_process.h"
#include "parallel/shell.h"
#include "parallel/tcp_socket.h"

namespace llmctl {
namespace {

std::string random_hex(size_t bytes) {
  std::vector<unsigned char> random(bytes);
  check(::getrandom(random.data(), bytes, 0) == static_cast<ssize_t>(bytes), Code::io, "[launch] no random bytes to be had");
  std::string out;
  for (const unsigned char b : random) out += fmt::format("{:02x}", b);
  return out;
}

int exit_code(int status) { return WIFSIGNALED(status) ? static_cast<int>(Code::device) : WEXITSTATUS(status); }
bool failed(const RankProcess& r) { return !r.running() && r.status() != 0; }
bool saved_and_left(int status) { return WIFEXITED(status) && WEXITSTATUS(status) == static_cast<int>(Code::interrupted); }

// How an attempt ended: the rank that was the cause (-1: none alone) and what to say.
struct WorldEnd {
  int code = 0, cause = -1;
  bool hung = false;
  std::string why, output;
};

// One world from its start to the end of its last process.
class World {
 public:
  World(const SupervisorOptions& o, int ranks, const std::string& job, int restart) : o_(o) {
    int port = 0;
    const Socket listener = listen_on(&port, "127.0.0.1");  // held from here on: nobody else gets the port
    const std::string token = random_hex(16);
    for (int r = 0; r < ranks; ++r) {
      RankStart start{r, o.program, {"train"}, rank_environment(r, ranks, port, job, restart), r == 0 ? listener.fd() : -1};
      start.arguments.insert(start.arguments.end(), o.train.begin(), o.train.end());
      if (restart > 0) start.arguments.insert(start.arguments.end(), {"--resume", "--take-over"});
      start.environment.emplace_back("LLMCTL_COMM_TOKEN", token);
      if (r == 0) start.environment.emplace_back("LLMCTL_COMM_LISTENER", std::to_string(listener.fd()));
      ranks_.emplace_back(start);
    }
  }

  std::string pids() const {
    std::string out;
    for (const RankProcess& r : ranks_) out += (out.empty() ? "" : ", ") + std::to_string(r.pid());
    return out;
  }

  // make_way: whether the ranks are to save and end for the sake of another world.
  WorldEnd wait(const std::function<bool()>& make_way) {
    while (running()) {
      attend();
      if (!told_ && (interrupted() || make_way())) tell();
      if (hung()) return hang();
      if (std::any_of(ranks_.begin(), ranks_.end(), failed) && !told_) return break_up();
    }
    return ending();
  }

 private:
  bool running() const {
    return std::any_of(ranks_.begin(), ranks_.end(), [](const RankProcess& r) { return r.running(); });
  }

  void attend() {
    std::vector<pollfd> fds;
    for (const RankProcess& r : ranks_)
      for (const int fd : {r.out_fd(), r.err_fd()})
        if (fd >= 0) fds.push_back({fd, POLLIN, 0});
    ::poll(fds.data(), fds.size(), 50);
    for (RankProcess& r : ranks_) r.attend();
  }

  void tell() {
    told_ = true;
    changed_ = Clock::now();
    for (const RankProcess& r : ranks_) r.signal(SIGTERM);
  }

  bool hung() {
    if (o_.hang_timeout <= 0) return false;
    const Json beat = read_heartbeat(o_.run);
    if (beat.is_object()) {
      const std::string now = beat.value("epoch", Json()).dump() + beat.value("step", Json()).dump() + beat.value("state", Json()).dump();
      if (now != progress_) progress_ = now, changed_ = Clock::now();
      where_ = fmt::format(" ({} at step {})", beat.value("state", ""), beat.value("step", Json(0)).dump());
    }
    return seconds_since(changed_) > o_.hang_timeout;
  }

  WorldEnd hang() {
    stop();
    return {static_cast<int>(Code::device), -1, true, fmt::format("no heartbeat told of progress for {:g} s{}", o_.hang_timeout, where_), ""};
  }

  void stop() {
    for (const RankProcess& r : ranks_) r.signal(SIGKILL);
    while (running()) attend();
  }

  // A rank died: the others notice within seconds and say so. What ended by itself meanwhile is judged.
  WorldEnd break_up() {
    const auto start = Clock::now();
    while (running() && seconds_since(start) < 3) attend();
    const WorldEnd end = ending();
    stop();
    return end;
  }

  // The cause: a rank that was killed before one with an error of its own before one that lost its peers.
  WorldEnd ending() const {
    const auto weight = [](const RankProcess& r) {
      return !failed(r) ? 0 : WIFSIGNALED(r.status()) ? 3 : exit_code(r.status()) != static_cast<int>(Code::device) ? 2 : 1;
    };
    const auto worst = std::max_element(ranks_.begin(), ranks_.end(),
                                        [&](const RankProcess& a, const RankProcess& b) { return weight(a) < weight(b); });
    WorldEnd end{0, -1, false, "", ranks_.front().output()};
    if (weight(*worst) == 0) return end;
    end.code = exit_code(worst->status());
    if (saved_and_left(worst->status())) return end;
    end.cause = worst->rank();
    const Json beat = read_heartbeat(o_.run);
    const std::string at = beat.is_object() ? fmt::format(" at step {}", beat.value("step", Json(0)).dump()) : "";
    end.why = fmt::format("rank {} {}{}", worst->rank(), describe_status(worst->status()), at);
    return end;
  }

  const SupervisorOptions& o_;
  std::vector<RankProcess> ranks_;
  bool told_ = false;
  std::string progress_, where_;
  Clock::time_point changed_ = Clock::now();
};

// Errors that the next try would meet again.
bool is_final(int code) { return code >= 1 && code <= 5; }

int64_t epoch_in(const Json& lease) {
  return lease.is_object() && lease.contains("epoch") && lease["epoch"].is_number_integer() ? lease["epoch"].get<int64_t>() : 0;
}

// Whether train takes its words with so many ranks: train itself is asked, by its dry run.
class Sizes {
 public:
  explicit Sizes(const SupervisorOptions& o) : o_(o) {}
  // The largest number of ranks up to `room` that it takes, 0 when it takes none from least_ranks on.
  int largest(int room) {
    for (int n = room; n >= o_.least_ranks; --n)
      if (fits(n)) return n;
    return 0;
  }
  const std::string& why() const { return why_; }

 private:
  bool fits(int ranks) {
    if (const auto known = fits_.find(ranks); known != fits_.end()) return known->second;
    std::vector<std::string> words = {o_.program, "train"};
    words.insert(words.end(), o_.train.begin(), o_.train.end());
    words.insert(words.end(), {"--plan", "--ranks", std::to_string(ranks)});
    const CommandResult said = run_command(words);
    if (said.code != 0) why_ = said.output;
    return fits_[ranks] = said.code == 0;
  }
  const SupervisorOptions& o_;
  std::map<int, bool> fits_;
  std::string why_;
};

class Supervisor {
 public:
  Supervisor(const SupervisorOptions& o, Log& log) : o_(o), log_(log), capacity_(o.ranks, o.slots, o.regrow), sizes_(o) {
    result_.job = random_hex(8);
    result_.ranks = o.ranks;
  }

  SupervisorResult go() {
    result_.code = static_cast<int>(Code::input);
    if (o_.elastic && capacity_.ranks() != o_.ranks && !resize()) return over("gave up");
    for (;;) {
      const int64_t epoch = epoch_in(read_lease(o_.run)), saved = newest_done(o_.run);
      World world(o_, result_.ranks, result_.job, result_.restarts + result_.resizes);
      log_.line(fmt::format("launch {}: {} ranks, processes {}", result_.job, result_.ranks, world.pids()));
      int next = result_.ranks;
      const WorldEnd end = world.wait([&] { return (next = other_size(epoch)) != result_.ranks; });
      result_.code = end.code;
      result_.output = end.output;
      if (end.code == 0) return over("done");
      const bool left = end.code == static_cast<int>(Code::interrupted);
      if (interrupted() || (left && next == result_.ranks)) return interrupted_here();
      if (left)
        made_way(next, saved);
      else if (!decide(end, epoch, saved))
        return over("gave up");
    }
  }

 private:
  // The size that there is room for, once this world has the run; ours as long as there is no news.
  int other_size(int64_t epoch) {
    if (!o_.elastic || seconds_since(looked_) < 0.25) return result_.ranks;
    looked_ = Clock::now();
    const int room = capacity_.ranks();
    if (room == asked_room_ || epoch_in(read_heartbeat(o_.run)) <= epoch) return result_.ranks;
    asked_room_ = room;
    const int size = room == result_.ranks ? room : sizes_.largest(room);
    if (size == result_.ranks) return size;
    if (size == 0) {
      log_.warning(fmt::format("{}, and no world from {} ranks up is among them: going on with {}", capacity_.why(), o_.least_ranks,
                               result_.ranks));
      return result_.ranks;
    }
    log_.line(fmt::format("{}: the ranks save, and {} go on instead of {}", capacity_.why(), size, result_.ranks));
    return size;
  }

  void made_way(int next, int64_t saved) {
    if (newest_done(o_.run) > saved) without_progress_ = 0, strikes_ = 0, last_cause_ = -1;
    ++result_.resizes;
    result_.ranks = next;
  }

  // The next world's size, from what there is room for. False: none, and why.
  bool resize() {
    asked_room_ = capacity_.ranks();
    const int size = sizes_.largest(asked_room_);
    if (asked_room_ < o_.least_ranks) return give_up(fmt::format("there is room for {} ranks, fewer than {}", asked_room_, o_.least_ranks));
    if (size == 0)
      return give_up(fmt::format("there is room for {} ranks, and none of the worlds of {} to {} will do: {}", asked_room_, o_.least_ranks,
                                 asked_room_, sizes_.why()));
    result_.ranks = size;
    return true;
  }

  SupervisorResult over(const std::string& state) {
    result_.state = state;
    return result_;
  }

  SupervisorResult interrupted_here() {
    result_.code = static_cast<int>(Code::interrupted);
    return over("interrupted");
  }

  bool give_up(const std::string& why) {
    result_.why = why;
    return false;
  }

  // Whether there is another try, after its pause.
  bool decide(const WorldEnd& end, int64_t epoch, int64_t saved) {
    if (is_final(end.code)) return give_up(end.why + ": another try would meet it again");
    const Json lease = read_lease(o_.run);
    if (epoch_in(lease) > epoch && lease.value("launch", "") != result_.job)
      return give_up(fmt::format("epoch {} of the run began on host {}: this launch was fenced off", epoch_in(lease), lease.value("host", "")));
    const int64_t now = newest_done(o_.run);
    if (now > saved) without_progress_ = 0, strikes_ = 0, last_cause_ = -1;
    strikes_ = end.cause >= 0 && end.cause == last_cause_ ? strikes_ + 1 : 1;
    last_cause_ = end.cause;
    if (o_.elastic && !other_world(end)) return false;
    if (without_progress_ >= o_.max_restarts)
      return give_up(fmt::format("{}; {} restarts brought no newer checkpoint than {}", end.why, without_progress_,
                                 now < 0 ? "none" : fmt::format("step {}", now)));
    ++without_progress_;
    ++result_.restarts;
    const double pause = std::min(60.0, o_.backoff * std::pow(2.0, without_progress_ - 1));
    log_.warning(fmt::format("{}; restart {} of {} without progress, {} ranks from {}, in {:g} s", end.why, without_progress_,
                             o_.max_restarts, result_.ranks, now < 0 ? "the start" : fmt::format("step {}", now), pause));
    const auto start = Clock::now();
    while (seconds_since(start) < pause && !interrupted()) ::poll(nullptr, 0, 20);
    if (!interrupted()) return true;
    result_.code = static_cast<int>(Code::interrupted);
    return give_up("interrupted before a restart");
  }

  // After a failure: with a place fewer when one rank fails again and again, with what the slots file says now.
  bool other_world(const WorldEnd& end) {
    const int before = result_.ranks;
    const bool again = end.cause >= 0 && strikes_ >= 2 && sizes_.largest(before - 1) > 0;
    if (again) {
      capacity_.give_up_one(before);
      without_progress_ = 0, last_cause_ = -1;
    }
    if (capacity_.ranks() == before) return true;
    if (!resize()) return false;
    if (again)
      log_.warning(fmt::format("rank {} failed twice in a row: going on with {} ranks", end.cause, result_.ranks));
    else if (result_.ranks != before)
      log_.line(fmt::format("{}: going on with {} ranks", capacity_.why(), result_.ranks));
    return true;
  }

  const SupervisorOptions& o_;
  Log& log_;
  Capacity capacity_;
  Sizes sizes_;
  int asked_room_ = -1;  // the room that ours is the answer to
  Clock::time_point looked_{};
  SupervisorResult result_;
  int without_progress_ = 0, strikes_ = 0, last_cause_ = -1;
};

}  // namespace

std::vector<std::pair<std::string, std::string>> rank_environment(int rank, int ranks, int port, const std::string& job, int restart) {
  return {{"RANK", std::to_string(rank)},
          {"WORLD_SIZE", std::to_string(ranks)},
          {"LOCAL_RANK", std::to_string(rank)},
          {"LOCAL_WORLD_SIZE", std::to_string(ranks)},
          {"MASTER_ADDR", "127.0.0.1"},
          {"MASTER_PORT", std::to_string(port)},
          {"TORCHELASTIC_RUN_ID", job},
          {"TORCHELASTIC_RESTART_COUNT", std::to_string(restart)},
          {"LLMCTL_LAUNCH", job}};
}

SupervisorResult supervise(const SupervisorOptions& options, Log& log) { return Supervisor(options, log).go(); }

}  // namespace llmctl
