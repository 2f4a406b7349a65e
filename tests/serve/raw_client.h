// SPDX-License-Identifier: Apache-2.0
// A small HTTP client on a plain socket: it sends whatever bytes it is told to.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>

#include "core/base/json.h"
#include "serve/http.h"

namespace llmctl::test {

struct Answer {
  int status = 0;  // 0: the server closed, or nothing came in time
  std::map<std::string, std::string> headers;
  std::string body;
  Json json() const { return Json::parse(body); }
};

class Client {
 public:
  explicit Client(int port) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in where{};
    where.sin_family = AF_INET;
    where.sin_port = htons(static_cast<uint16_t>(port));
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(fd_, reinterpret_cast<sockaddr*>(&where), sizeof where) != 0)
      throw std::runtime_error("cannot connect");
  }
  ~Client() { hang_up(); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  void hang_up() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(n));
    }
    return true;
  }
  // More bytes into pending(); false at the end or after the time.
  bool more(int timeout_ms = 5000) {
    pollfd p{fd_, POLLIN, 0};
    if (::poll(&p, 1, timeout_ms) <= 0) return false;
    char chunk[65536];
    const ssize_t n = ::recv(fd_, chunk, sizeof chunk, 0);
    if (n <= 0) return false;
    pending_.append(chunk, static_cast<size_t>(n));
    return true;
  }
  const std::string& pending() const { return pending_; }
  bool closed(int timeout_ms = 5000) {
    while (more(timeout_ms)) pending_.clear();
    char c;
    return ::recv(fd_, &c, 1, MSG_DONTWAIT | MSG_PEEK) == 0 || errno == ECONNRESET;
  }

  Answer read(bool head_only = false, int timeout_ms = 10000) {
    Answer answer;
    size_t end = 0;
    while ((end = pending_.find("\r\n\r\n")) == std::string::npos)
      if (!more(timeout_ms)) return answer;
    parse_head(pending_.substr(0, end), answer);
    pending_.erase(0, end + 4);
    if (head_only || answer.status == 204 || answer.status == 100) return answer;
    if (answer.headers.count("content-length")) {
      const auto n = static_cast<size_t>(std::stoul(answer.headers["content-length"]));
      while (pending_.size() < n)
        if (!more(timeout_ms)) return {};
      answer.body = pending_.substr(0, n);
      pending_.erase(0, n);
    } else if (answer.headers.count("transfer-encoding")) {
      if (!read_chunks(answer.body, timeout_ms)) return {};
    } else {
      while (more(timeout_ms)) {
      }
      answer.body.swap(pending_);
    }
    return answer;
  }

  Answer request(const std::string& method, const std::string& path, const std::string& body = {},
                 const std::string& headers = {}) {
    std::string text = method + ' ' + path + " HTTP/1.1\r\nhost: t\r\n" + headers;
    if (method == "POST")
      text += "content-type: application/json\r\ncontent-length: " + std::to_string(body.size()) + "\r\n";
    send(text + "\r\n" + body);
    return read(method == "HEAD");
  }
  Answer get(const std::string& path) { return request("GET", path); }
  Answer post(const std::string& path, const Json& body) { return request("POST", path, body.dump()); }

 private:
  static void parse_head(const std::string& head, Answer& answer) {
    answer.status = std::atoi(head.c_str() + 9);
    size_t at = head.find("\r\n");
    while (at != std::string::npos) {
      const size_t next = head.find("\r\n", at + 2);
      const std::string line = head.substr(at + 2, next == std::string::npos ? next : next - at - 2);
      const size_t colon = line.find(": ");
      if (colon != std::string::npos) answer.headers[line.substr(0, colon)] = line.substr(colon + 2);
      at = next;
    }
  }
  bool read_chunks(std::string& body, int timeout_ms) {
    for (;;) {
      size_t line = 0;
      while ((line = pending_.find("\r\n")) == std::string::npos)
        if (!more(timeout_ms)) return false;
      const auto n = static_cast<size_t>(std::stoul(pending_.substr(0, line), nullptr, 16));
      while (pending_.size() < line + 2 + n + 2)
        if (!more(timeout_ms)) return false;
      body += pending_.substr(line + 2, n);
      pending_.erase(0, line + 2 + n + 2);
      if (n == 0) return true;
    }
  }

  int fd_ = -1;
  std::string pending_;
};

}  // namespace llmctl::test
