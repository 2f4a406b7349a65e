// SPDX-License-Identifier: Apache-2.0
#include "parallel/tcp_rendezvous.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <functional>

namespace llmctl {
namespace {

constexpr uint64_t kMagic = 0x316c74636d6c6c00;  // "\0llmctl1": a version of its own
constexpr size_t kToken = 64;

struct Hello {  // little-endian, as every machine this is built for
  uint64_t magic = kMagic;
  int32_t rank = 0, size = 0, port = 0, reserved = 0;
  std::array<char, kToken> token{};
};
enum Welcome : int32_t { welcome = 1, wrong_token = 2 };
struct Address {
  char host[60] = "";
  int32_t port = 0;
};
struct Verdict {  // of rank 0: the table follows, or the text of an error
  int32_t code = 0, bytes = 0;
};

template <class T>
std::span<std::byte> raw(T& value) {
  return std::as_writable_bytes(std::span(&value, 1));
}

Hello hello_of(const TcpOptions& o, int port) {
  check(o.token.size() <= kToken, Code::usage, "[comm] a token of ", o.token.size(), " bytes, at most ",
        kToken);
  Hello h;
  h.rank = o.rank;
  h.size = o.size;
  h.port = port;
  std::copy(o.token.begin(), o.token.end(), h.token.begin());
  return h;
}

// In the same time for every wrong token.
bool same_token(const Hello& a, const Hello& b) {
  int differs = a.magic == b.magic ? 0 : 1;
  for (size_t i = 0; i < kToken; ++i) differs |= a.token[i] ^ b.token[i];
  return differs == 0;
}

// Those who have connected and not yet said who they are. One that is slow or silent holds nobody up.
class Reception {
 public:
  Reception(const Socket& listener, const Hello& mine) : listener_(listener), mine_(mine) {}
  // Serves until `enough` or the deadline. came(hello, socket) is called for those with the token.
  bool serve(CommClock::time_point deadline, const std::function<bool()>& enough,
             const std::function<void(const Hello&, Socket)>& came) {
    while (!enough()) {
      if (CommClock::now() >= deadline) return false;
      std::vector<pollfd> fds{{listener_.fd(), POLLIN, 0}};
      for (const Guest& g : guests_) fds.push_back({g.socket.fd(), POLLIN, 0});
      ::poll(fds.data(), fds.size(), 50);
      if (fds[0].revents != 0 && guests_.size() < 4096)
        if (Socket s = accept_from(listener_, {})) guests_.push_back({std::move(s), {}, 0, CommClock::now()});
      for (Guest& g : guests_) listen(g, came);
      std::erase_if(guests_, [](const Guest& g) { return !g.socket; });
    }
    return true;
  }

 private:
  struct Guest {
    Socket socket;
    Hello hello;
    size_t have = 0;
    CommClock::time_point since;
  };
  void listen(Guest& g, const std::function<void(const Hello&, Socket)>& came) {
    const std::span<std::byte> rest = raw(g.hello).subspan(g.have);
    const ssize_t n = ::recv(g.socket.fd(), rest.data(), rest.size(), 0);
    const bool waits = n < 0 && (errno == EAGAIN || errno == EINTR);
    if (n > 0) g.have += static_cast<size_t>(n);
    const bool late = CommClock::now() - g.since > std::chrono::seconds(5);
    if (n == 0 || (n < 0 && !waits) || (late && g.have < sizeof(Hello))) {
      Socket gone = std::move(g.socket);
      return;
    }
    if (g.have < sizeof(Hello)) return;
    Socket socket = std::move(g.socket);
    int32_t answer = same_token(g.hello, mine_) ? welcome : wrong_token;
    std::string why;
    if (write_all(socket, raw(answer), CommClock::now() + std::chrono::seconds(1), why) && answer == welcome)
      came(g.hello, std::move(socket));
  }
  const Socket& listener_;
  const Hello mine_;
  std::vector<Guest> guests_;
};

void read_welcome(const Socket& socket, const Endpoint& of, CommClock::time_point deadline) {
  int32_t answer = 0;
  std::string why;
  check(read_all(socket, raw(answer), deadline, why), Code::device, "[comm] ", of.text(),
        " does not answer: ", why);
  check(answer == welcome, Code::device, "[comm] ", of.text(),
        answer == wrong_token ? " refused us: another run's token; is MASTER_PORT taken by another run?"
                              : " is no rank of llmctl");
}

std::string seconds_text(double s) {
  std::ostringstream text;
  text << s;
  return text.str();
}

// Rank 0's part: hears everybody, then tells everybody the table, or the one reason why not.
void gather_all(const TcpOptions& o, const Socket& listener, std::vector<Socket>& sockets,
                CommClock::time_point deadline) {
  std::vector<Address> table(static_cast<size_t>(o.size));
  std::string problem;
  Code code = Code::input;
  int missing = o.size - 1;
  std::vector<Socket> contradicting;
  const auto came = [&](const Hello& h, Socket socket) {
    const std::string host = address_of_peer(socket);
    if (h.size != o.size)
      problem = "rank " + std::to_string(h.rank) + " (" + host + ") says the world has " +
                std::to_string(h.size) + " ranks, rank 0 says " + std::to_string(o.size);
    else if (h.rank <= 0 || h.rank >= o.size)
      problem = "a process on " + host + " says it is rank " + std::to_string(h.rank) + " of " +
                std::to_string(o.size);
    else if (sockets[static_cast<size_t>(h.rank)])
      problem = "two processes say they are rank " + std::to_string(h.rank) + ", one of them on " + host;
    if (!problem.empty()) return contradicting.push_back(std::move(socket));
    Address& a = table[static_cast<size_t>(h.rank)];
    std::strncpy(a.host, host.c_str(), sizeof a.host - 1);
    a.port = h.port;
    sockets[static_cast<size_t>(h.rank)] = std::move(socket);
    --missing;
  };
  Reception reception(listener, hello_of(o, 0));
  if (!reception.serve(
          deadline, [&] { return missing == 0 || !problem.empty(); }, came)) {
    code = Code::device;
    problem = "rank 0 waited " + seconds_text(o.connect_timeout) + " s for " + std::to_string(o.size) +
              " ranks; missing: rank";
    for (int r = 1, shown = 0; r < o.size && shown < 8; ++r)
      if (!sockets[static_cast<size_t>(r)]) problem += (shown++ ? ", " : " ") + std::to_string(r);
  }
  Verdict verdict{static_cast<int32_t>(code), static_cast<int32_t>(problem.size())};
  if (problem.empty()) verdict = {0, static_cast<int32_t>(table.size() * sizeof(Address))};
  const auto content = problem.empty() ? std::as_bytes(std::span(table)) : std::as_bytes(std::span(problem));
  const auto tell = [&](const Socket& s) {
    std::string why;
    const auto soon = CommClock::now() + std::chrono::seconds(5);
    if (s && write_all(s, raw(verdict), soon, why)) write_all(s, content, soon, why);
  };
  for (const Socket& s : sockets) tell(s);
  for (const Socket& s : contradicting) tell(s);
  check(problem.empty(), code, "[comm] ", problem);
}

std::vector<Address> ask_table(const TcpOptions& o, const Socket& to_master, CommClock::time_point deadline) {
  // Rank 0's own deadline comes first, so that its reason arrives here.
  const auto patience = deadline + std::chrono::seconds(5);
  Verdict verdict;
  std::string why;
  check(read_all(to_master, raw(verdict), patience, why) && verdict.bytes >= 0 && verdict.bytes < (1 << 24),
        Code::device, "[comm] rank 0 at ", o.master.text(), " did not say who is there: ", why);
  std::string text(static_cast<size_t>(verdict.bytes), '\0');
  check(read_all(to_master, std::as_writable_bytes(std::span(text)), patience, why), Code::device,
        "[comm] rank 0 at ", o.master.text(), ": ", why);
  if (verdict.code != 0) throw Error(static_cast<Code>(verdict.code), "[comm] " + text);
  std::vector<Address> table(text.size() / sizeof(Address));
  std::memcpy(table.data(), text.data(), table.size() * sizeof(Address));
  check(table.size() == static_cast<size_t>(o.size), Code::bug, "[comm] a table of ", table.size(), " ranks");
  for (Address& a : table) a.host[sizeof a.host - 1] = '\0';
  return table;
}

}  // namespace

std::vector<Socket> meet(const TcpOptions& options) {
  if (options.rank > 0) return meet(options, Socket());
  int port = options.master.port;
  const std::string& host = options.master.host;
  const bool local = host == "127.0.0.1" || host == "localhost" || host == "::1";
  return meet(options, listen_on(&port, local ? host : ""));
}

std::vector<Socket> meet(const TcpOptions& o, Socket listener) {
  const auto deadline = CommClock::now() + std::chrono::duration_cast<CommClock::duration>(
                                               std::chrono::duration<double>(o.connect_timeout));
  std::vector<Socket> sockets(static_cast<size_t>(o.size));
  if (o.rank == 0) {
    gather_all(o, listener, sockets, deadline);
    return sockets;
  }
  int port = 0;
  const Socket own = listen_on(&port);
  Hello mine = hello_of(o, port);
  std::string why;
  const auto greet = [&](const Endpoint& to) {
    Socket s = connect_to(to, deadline);
    check(write_all(s, raw(mine), deadline, why), Code::device, "[comm] cannot greet ", to.text(), ": ", why);
    return s;
  };
  sockets[0] = greet(o.master);
  read_welcome(sockets[0], o.master, deadline);
  const std::vector<Address> table = ask_table(o, sockets[0], deadline);
  const auto endpoint = [&](int r) {
    return Endpoint{table[static_cast<size_t>(r)].host, table[static_cast<size_t>(r)].port};
  };
  for (int r = 1; r < o.rank; ++r) sockets[static_cast<size_t>(r)] = greet(endpoint(r));
  int missing = o.size - 1 - o.rank;
  Reception reception(own, mine);
  const bool all = reception.serve(
      deadline, [&] { return missing == 0; },
      [&](const Hello& h, Socket s) {
        if (h.rank <= o.rank || h.rank >= o.size || sockets[static_cast<size_t>(h.rank)]) return;
        sockets[static_cast<size_t>(h.rank)] = std::move(s);
        --missing;
      });
  check(all, Code::device, "[comm] rank ", o.rank, " waited for ", missing, " ranks that rank 0 knows");
  for (int r = 1; r < o.rank; ++r) read_welcome(sockets[static_cast<size_t>(r)], endpoint(r), deadline);
  return sockets;
}

}  // namespace llmctl
