// SPDX-License-Identifier: Apache-2.0
#include "parallel/rank_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "kernels/error.h"

namespace llmctl {
namespace {

struct Pipe {
  int read = -1, write = -1;
  Pipe() {
    int ends[2];
    check(::pipe2(ends, O_CLOEXEC) == 0, Code::io, "[launch] cannot make a pipe: ", std::strerror(errno));
    read = ends[0], write = ends[1];
    ::fcntl(read, F_SETFL, O_NONBLOCK);
  }
};

std::vector<std::string> environment_of(const RankStart& start) {
  std::vector<std::string> all;
  for (char** e = environ; *e; ++e) {
    const std::string entry = *e, name = entry.substr(0, entry.find('='));
    bool ours = false;
    for (const auto& [key, value] : start.environment) ours |= key == name;
    if (!ours) all.push_back(entry);
  }
  for (const auto& [key, value] : start.environment) all.push_back(key + "=" + value);
  return all;
}

std::vector<char*> pointers(std::vector<std::string>& words) {
  std::vector<char*> out;
  for (std::string& w : words) out.push_back(w.data());
  out.push_back(nullptr);
  return out;
}

}  // namespace

RankProcess::RankProcess(const RankStart& start) : rank_(start.rank) {
  Pipe out, err;
  std::vector<std::string> words = {"llmctl"}, environment = environment_of(start);
  words.insert(words.end(), start.arguments.begin(), start.arguments.end());
  const std::vector<char*> argv = pointers(words), envp = pointers(environment);
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ == 0) {  // only calls that are safe after fork
    ::setpgid(0, 0);
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (::getppid() != parent) ::_exit(130);
    const int null = ::open("/dev/null", O_RDONLY);
    ::dup2(null, STDIN_FILENO);
    ::dup2(out.write, STDOUT_FILENO);
    if (start.rank > 0) ::dup2(err.write, STDERR_FILENO);
    if (start.keep_open >= 0) ::fcntl(start.keep_open, F_SETFD, 0);
    ::execve(start.program.c_str(), argv.data(), envp.data());
    ::_exit(127);
  }
  const int failed = errno;
  ::close(out.write);
  ::close(err.write);
  out_ = out.read, err_ = err.read;
  check(pid_ > 0, Code::io, "[launch] cannot start rank ", rank_, ": ", std::strerror(failed));
  ::setpgid(pid_, pid_);  // whoever comes first
  running_ = true;
}

RankProcess::RankProcess(RankProcess&& o) noexcept
    : rank_(o.rank_), status_(o.status_), out_(o.out_), err_(o.err_), pid_(o.pid_), running_(o.running_),
      output_(std::move(o.output_)), errors_(std::move(o.errors_)) {
  o.out_ = o.err_ = o.pid_ = -1;
  o.running_ = false;
}

RankProcess::~RankProcess() {
  if (running_) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  if (out_ >= 0) ::close(out_);
  if (err_ >= 0) ::close(err_);
}

// False at the end of the stream, which is closed then.
bool RankProcess::drain(int& fd, std::string& into) const {
  char piece[4096];
  while (fd >= 0) {
    const ssize_t n = ::read(fd, piece, sizeof piece);
    if (n > 0) {
      into.append(piece, static_cast<size_t>(n));
      continue;
    }
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return true;
    ::close(fd);
    fd = -1;
  }
  return false;
}

void RankProcess::relay(bool all) {
  if (all && !errors_.empty() && errors_.back() != '\n') errors_ += '\n';
  size_t begin = 0;
  for (size_t end; (end = errors_.find('\n', begin)) != std::string::npos; begin = end + 1)
    std::fprintf(stderr, "[rank %d] %s\n", rank_, errors_.substr(begin, end - begin).c_str());
  errors_.erase(0, begin);
}

void RankProcess::attend() {
  int status = 0;
  if (running_ && ::waitpid(pid_, &status, WNOHANG) == pid_) status_ = status, running_ = false;
  drain(out_, rank_ == 0 ? output_ : errors_);
  const bool more = drain(err_, errors_);
  relay(!more || !running_);
}

void RankProcess::signal(int number) const {
  if (running_) ::kill(pid_, number);
}

std::string describe_status(int status) {
  if (WIFSIGNALED(status))
    return "was killed by signal " + std::to_string(WTERMSIG(status)) + " (" + ::strsignal(WTERMSIG(status)) + ")";
  const int code = WEXITSTATUS(status);
  const char* meaning = code == 1     ? "the answer is no"
                        : code == 2   ? "usage"
                        : code == 3   ? "bad input"
                        : code == 4   ? "unsupported"
                        : code == 5   ? "not enough memory"
                        : code == 6   ? "device or communication"
                        : code == 7   ? "cannot read or write"
                        : code == 70  ? "our bug"
                        : code == 127 ? "could not be started"
                        : code == 130 ? "interrupted"
                                      : "unknown";
  return "ended with exit code " + std::to_string(code) + " (" + meaning + ")";
}

}  // namespace llmctl
