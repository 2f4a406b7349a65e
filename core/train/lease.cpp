// SPDX-License-Identifier: Apache-2.0
#include "core/train/lease.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>
#include <fstream>

namespace llmctl {
namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::string first_line(const char* path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

// When a process began, in ticks since its machine did; "" when there is none.
std::string start_of(pid_t pid) {
  const std::string stat = first_line(fmt::format("/proc/{}/stat", pid).c_str());
  size_t at = stat.rfind(')');  // the name before it may hold anything
  for (int field = 2; field < 22 && at != std::string::npos; ++field) at = stat.find(' ', at + 1);
  return at == std::string::npos ? "" : stat.substr(at + 1, stat.find(' ', at + 1) - at - 1);
}

// The machine since it booted, and the namespace that pids count in: where a pid can be asked after.
std::string machine() {
  std::error_code ignored;
  return first_line("/proc/sys/kernel/random/boot_id") + " " + fs::read_symlink("/proc/self/ns/pid", ignored).string();
}

// N of ".epoch-N", or -1.
int64_t epoch_of(const fs::path& path) {
  const std::string name = path.filename().string();
  int64_t n = -1;
  if (!name.starts_with(".epoch-")) return -1;
  const auto [end, ec] = std::from_chars(name.data() + 7, name.data() + name.size(), n);
  return ec == std::errc() && end == name.data() + name.size() ? n : -1;
}

std::vector<fs::path> epochs_in(const fs::path& run) {
  std::vector<fs::path> found;
  for (const auto& e : fs::directory_iterator(run))
    if (epoch_of(e.path()) >= 0) found.push_back(e.path());
  return found;
}

Json read_small(const fs::path& path) {
  try {
    const Json json = fs::exists(path) ? read_json(path, 1 << 16) : Json();
    return json.is_object() ? json : Json();
  } catch (const Error&) {
    return {};
  }
}

int64_t highest_epoch(const fs::path& run) {
  int64_t highest = 0;
  if (const Json lease = read_lease(run); lease.is_object() && lease.contains("epoch") && lease["epoch"].is_number_integer())
    highest = lease["epoch"].get<int64_t>();
  for (const fs::path& e : epochs_in(run)) highest = std::max(highest, epoch_of(e));
  return highest;
}

std::string text_in(const Json& json, const char* key) {
  return json.is_object() && json.contains(key) && json[key].is_string() ? json[key].get<std::string>() : "";
}

int64_t number_in(const Json& json, const char* key) {
  return json.is_object() && json.contains(key) && json[key].is_number() ? json[key].get<int64_t>() : 0;
}

// Seconds since any of these changed, by the clock of the file system alone: hosts' clocks differ.
double age_of_newest(const fs::path& run, const std::vector<fs::path>& paths) {
  const fs::path probe = run / fmt::format(".now-{}-{}", host_name(), ::getpid());
  std::ofstream(probe).put('\n');
  const auto time_of = [](const fs::path& p) {
    struct stat s {};
    return ::stat(p.c_str(), &s) == 0 ? static_cast<double>(s.st_mtim.tv_sec) + 1e-9 * static_cast<double>(s.st_mtim.tv_nsec) : 0.0;
  };
  const double at = time_of(probe);
  std::error_code ignored;
  fs::remove(probe, ignored);
  double newest = 0;
  for (const fs::path& p : paths) newest = std::max(newest, time_of(p));
  return at - newest;
}

// Until it is gone: its process may be making files in it at this moment.
void remove_wholly(const fs::path& folder) {
  std::error_code ec;
  for (int i = 0; i < 1000 && fs::exists(fs::symlink_status(folder, ec)); ++i) fs::remove_all(folder, ec);
  check(!fs::exists(fs::symlink_status(folder, ec)), Code::io, "[lease] ", folder.string(), ": cannot be removed");
}

}  // namespace

std::string host_name() {
  char name[256] = "";
  ::gethostname(name, sizeof name - 1);
  return name;
}

Json read_lease(const fs::path& run) { return read_small(run / "lease.json"); }
Json read_heartbeat(const fs::path& run) { return read_small(run / "heartbeat.json"); }

RunLease::RunLease(const fs::path& run, const LeaseOptions& options) : run_(run) {
  fs::create_directories(run_);
  changed_ = now();
  lease_ = {{"epoch", 0},
            {"host", host_name()},
            {"pid", ::getpid()},
            {"process", machine() + " " + start_of(::getpid())},
            {"world", options.world},
            {"launch", options.launch},
            {"started", changed_},
            {"ended", nullptr}};
  take(options);
  fence_older();
  lease_["epoch"] = epoch_;
  write("lease.json", lease_.dump(2) + "\n");
  write_beat();
  if (options.beat > 0) beating_ = std::thread([this, seconds = options.beat] { beat_forever(seconds); });
}

RunLease::~RunLease() {
  if (beating_.joinable()) {
    const std::unique_lock lock(mutex_);
    done_ = true;
    wake_.notify_all();
  }
  if (beating_.joinable()) beating_.join();
  try {
    lease_["ended"] = now();
    write("lease.json", lease_.dump(2) + "\n");
  } catch (const Error&) {  // a newer epoch's by now, or a full disk: the next start waits a little
  }
}

void RunLease::refuse_if_alive(const LeaseOptions& options) const {
  const int64_t newest = highest_epoch(run_);
  if (options.take_over || newest == 0) return;
  const Json lease = read_lease(run_), owner = read_small(run_ / fmt::format(".epoch-{}", newest) / "owner");
  if (number_in(lease, "epoch") == newest && lease["ended"].is_number()) return;
  const auto pid = static_cast<pid_t>(number_in(owner, "pid"));
  const std::string process = text_in(owner, "process");
  if (process.starts_with(machine() + " ") && process != machine() + " " + start_of(pid)) return;
  std::vector<fs::path> signs = epochs_in(run_);
  signs.push_back(run_ / "lease.json");
  signs.push_back(run_ / "heartbeat.json");
  const double age = age_of_newest(run_, signs);
  check(age > options.fresh, Code::usage, "[lease] ", run_.string(), " is being trained: epoch ", newest, " on host ",
        text_in(owner, "host"), ", process ", pid, ", last sign of life ", fmt::format("{:.0f}", std::max(0.0, age)),
        " s ago; stop that one, or fence it off with --take-over");
}

// The folder comes with its owner's name in it: rename replaces no folder that holds something, and there
// is no moment in which nobody can tell whose the epoch is.
void RunLease::take(const LeaseOptions& options) {
  static std::atomic<int> counter{0};
  const fs::path prepared = run_ / fmt::format(".start-{}-{}-{}", host_name(), ::getpid(), counter.fetch_add(1));
  fs::create_directory(prepared);
  try {
    inode_ = identity_of(prepared).inode;
    write_file(prepared / "owner", lease_.dump() + "\n", true);
    for (int tries = 0; tries < 100; ++tries) {
      refuse_if_alive(options);
      epoch_ = highest_epoch(run_) + 1;
      staging_ = run_ / fmt::format(".epoch-{}", epoch_);
      if (::rename(prepared.c_str(), staging_.c_str()) != 0) {
        check(errno == EEXIST || errno == ENOTEMPTY, Code::io, "[lease] ", staging_.string(), ": cannot create: ",
              std::strerror(errno));
        continue;  // another start was faster
      }
      if (highest_epoch(run_) == epoch_) return;
      // A number that was taken, fenced and removed between our two looks; or a newer start has fenced ours off.
      check(::rename(staging_.c_str(), prepared.c_str()) == 0, Code::device, "[lease] ", run_.string(),
            ": another start took the run over at the same time");
    }
    throw Error(Code::io, "[lease] " + run_.string() + ": no epoch to be had in 100 tries");
  } catch (const std::exception&) {
    std::error_code ignored;
    fs::remove_all(prepared, ignored);
    throw;
  }
}

void RunLease::fence_older() {
  for (const fs::path& older : epochs_in(run_)) {
    const int64_t n = epoch_of(older);
    if (n >= epoch_) continue;
    const fs::path away = staging_ / fmt::format("fenced-{}", n);
    if (::rename(older.c_str(), away.c_str()) == 0)
      remove_wholly(away);
    else if (struct stat s {}; ::stat(staging_.c_str(), &s) != 0)
      lost();
  }
}

void RunLease::lost() const {
  const Json lease = read_lease(run_);
  throw Error(Code::device, fmt::format("[lease] {} went on without this process, which is of epoch {}: epoch {} began on host {}, "
                                        "process {}; nothing of this one was published since",
                                        run_.string(), epoch_, std::max(highest_epoch(run_), epoch_ + 1), text_in(lease, "host"),
                                        number_in(lease, "pid")));
}

void RunLease::check_held() const {
  struct stat s {};
  if (::stat(staging_.c_str(), &s) == 0 ? s.st_ino != inode_ : errno == ENOENT || errno == ESTALE) lost();
}

void RunLease::publish(const std::string& name, const fs::path& to, bool flush) {
  const fs::path from = staging_ / name;
  struct stat s {};
  if (::lstat(to.c_str(), &s) == 0 && S_ISDIR(s.st_mode)) remove(to);  // rename replaces no folder that has something in it
  if (::rename(from.c_str(), to.c_str()) == 0) {
    if (flush) flush_path(to.parent_path());
    return;
  }
  const int code = errno;
  check_held();
  throw Error(Code::io, fmt::format("[lease] cannot rename {} to {}: {}", from.string(), to.string(), std::strerror(code)));
}

void RunLease::remove(const fs::path& what) {
  const fs::path away = staging_ / ("removed-" + what.filename().string());
  if (::rename(what.c_str(), away.c_str()) != 0) {
    const int code = errno;
    check_held();
    throw Error(Code::io, fmt::format("[lease] cannot remove {}: {}", what.string(), std::strerror(code)));
  }
  std::error_code ignored;  // space is all it costs
  fs::remove_all(away, ignored);
}

void RunLease::write(const std::string& name, const std::string& text, bool flush) {
  check_held();
  try {
    if (flush)
      write_file(staging_ / name, text, true);
    else
      std::ofstream(staging_ / name) << text;
  } catch (const Error&) {
    check_held();
    throw;
  }
  publish(name, run_ / name, flush);
}

void RunLease::beat(const Beat& beat) {
  const std::unique_lock lock(mutex_);
  if (beat.step != beat_.step || beat.state != beat_.state) changed_ = now();
  beat_ = beat;
}

void RunLease::write_beat() {
  Json json;
  {
    const std::unique_lock lock(mutex_);
    json = {{"epoch", epoch_},         {"time", now()},           {"step", beat_.step},
            {"steps", beat_.steps},    {"state", beat_.state},    {"changed", changed_},
            {"tokens_per_second", beat_.tokens_per_second}};
  }
  write("heartbeat.json", json.dump() + "\n", false);
}

void RunLease::beat_forever(double seconds) {
  std::unique_lock lock(mutex_);
  while (!done_) {
    wake_.wait_for(lock, std::chrono::duration<double>(seconds));
    if (done_) return;
    lock.unlock();
    try {
      write_beat();
    } catch (const Error&) {  // fenced, or a full disk: the run finds out itself
    }
    lock.lock();
  }
}

}  // namespace llmctl
