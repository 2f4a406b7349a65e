// SPDX-License-Identifier: Apache-2.0
#include "cmd/child.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "kernels/error.h"

namespace llmctl {

Child::Child(const std::vector<std::string>& arguments, const std::string& folder) {
  int pipe_ends[2];
  check(::pipe2(pipe_ends, O_CLOEXEC) == 0, Code::io, "[demo] cannot make a pipe: ", std::strerror(errno));
  std::vector<std::string> words = {"llmctl"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& w : words) argv.push_back(w.data());
  argv.push_back(nullptr);
  pid_ = ::fork();
  check(pid_ >= 0, Code::io, "[demo] cannot start a process: ", std::strerror(errno));
  if (pid_ == 0) {  // only calls that are safe after fork
    ::dup2(pipe_ends[1], STDOUT_FILENO);
    if (::chdir(folder.c_str()) == 0) ::execv("/proc/self/exe", argv.data());
    ::_exit(127);
  }
  ::close(pipe_ends[1]);
  output_ = pipe_ends[0];
}

Child::~Child() {
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  ::close(output_);
}

bool Child::line(std::string& out) {
  for (;;) {
    if (const size_t end = buffered_.find('\n'); end != std::string::npos) {
      out = buffered_.substr(0, end);
      buffered_.erase(0, end + 1);
      return true;
    }
    char piece[4096];
    const ssize_t n = ::read(output_, piece, sizeof piece);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      out = std::exchange(buffered_, "");
      return !out.empty();
    }
    buffered_.append(piece, static_cast<size_t>(n));
  }
}

void Child::terminate() {
  ::kill(pid_, SIGTERM);
}

int Child::wait() {
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

namespace {

struct Socket {
  int fd = -1;
  ~Socket() {
    if (fd >= 0) ::close(fd);
  }
};

void send_all(int fd, const std::string& text) {
  for (size_t at = 0; at < text.size();) {
    const ssize_t n = ::send(fd, text.data() + at, text.size() - at, MSG_NOSIGNAL);
    check(n > 0, Code::io, "[demo] the server hung up");
    at += static_cast<size_t>(n);
  }
}

}  // namespace

int post_json(int port, const std::string& path, const std::string& body,
              const std::function<void(const std::string&)>& line) {
  Socket s{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  check(s.fd >= 0 && ::connect(s.fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0, Code::io,
        "[demo] cannot connect to port ", port, ": ", std::strerror(errno));
  // HTTP/1.0 asks for an unchunked body that ends with the connection.
  send_all(s.fd, "POST " + path +
                     " HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: " +
                     std::to_string(body.size()) + "\r\n\r\n" + body);
  std::string text;
  bool in_body = false;
  int status = 0;
  char piece[4096];
  for (ssize_t n; (n = ::recv(s.fd, piece, sizeof piece, 0)) > 0;) {
    text.append(piece, static_cast<size_t>(n));
    for (size_t end; (end = text.find('\n')) != std::string::npos; text.erase(0, end + 1)) {
      std::string one = text.substr(0, end);
      if (!one.empty() && one.back() == '\r') one.pop_back();
      if (status == 0 && one.size() > 12) status = std::atoi(one.c_str() + 9);
      if (in_body) line(one);
      if (one.empty()) in_body = true;
    }
  }
  if (in_body && !text.empty()) line(text);
  check(status > 0, Code::io, "[demo] the server sent no reply");
  return status;
}

}  // namespace llmctl
