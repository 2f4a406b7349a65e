// SPDX-License-Identifier: Apache-2.0
#include "comm_checks.h"

#include <algorithm>
#include <numeric>

namespace llmctl {
namespace {

// A value that says where it was made.
int64_t value(int rank, size_t i, int64_t salt) {
  uint64_t x = static_cast<uint64_t>(rank) * 0x9e3779b97f4a7c15u + i * 0xbf58476d1ce4e5b9u +
               static_cast<uint64_t>(salt);
  x ^= x >> 29;
  x *= 0x94d049bb133111ebu;
  return static_cast<int64_t>(x ^ (x >> 32));
}

void expect(bool ok, Comm& comm, const std::string& what) {
  check(ok, Code::no, "rank ", comm.rank(), " of ", comm.size(), ": ", what);
}

std::vector<int64_t> made(int rank, size_t n, int64_t salt) {
  std::vector<int64_t> v(n);
  for (size_t i = 0; i < n; ++i) v[i] = value(rank, i, salt);
  return v;
}

// Uneven pieces, some empty: piece r has (r * 7 + salt) % 3 * unit elements.
std::vector<int64_t> uneven(int ranks, int64_t salt, int64_t unit) {
  std::vector<int64_t> o(1, 0);
  for (int r = 0; r < ranks; ++r) o.push_back(o.back() + (r * 7 + salt) % 3 * unit);
  return o;
}

std::vector<int64_t> in_bytes(std::vector<int64_t> offsets) {
  for (int64_t& o : offsets) o *= 8;
  return offsets;
}

template <class T>
std::vector<T> reduced(int ranks, size_t n, int64_t salt, CommOp op) {
  std::vector<T> v(n);
  for (size_t i = 0; i < n; ++i) {
    T x = static_cast<T>(value(0, i, salt));
    for (int r = 1; r < ranks; ++r) {
      const T y = static_cast<T>(value(r, i, salt));
      if (op == CommOp::sum)
        x = static_cast<T>(static_cast<std::make_unsigned_t<T>>(x) + static_cast<std::make_unsigned_t<T>>(y));
      else
        x = op == CommOp::max ? std::max(x, y) : std::min(x, y);
    }
    v[i] = x;
  }
  return v;
}

template <class T>
std::vector<T> narrowed(const std::vector<int64_t>& wide) {
  std::vector<T> v(wide.size());
  for (size_t i = 0; i < v.size(); ++i) v[i] = static_cast<T>(wide[i]);
  return v;
}

constexpr size_t kSizes[] = {0, 1, 3, 7, 511, 513, 2047, 2049, 9001};
constexpr size_t kLarge = 140003;  // more than a MiB

template <class T>
void check_reductions(Comm& comm) {
  int64_t salt = 1;
  for (const size_t n : kSizes)
    for (const CommOp op : {CommOp::sum, CommOp::max, CommOp::min}) {
      std::vector<T> v = narrowed<T>(made(comm.rank(), n, ++salt));
      comm.all_reduce(std::span<T>(v), op, {"reduce", salt});
      expect(v == reduced<T>(comm.size(), n, salt, op), comm, "all_reduce of " + std::to_string(n));
    }
  std::vector<T> large(kLarge, static_cast<T>(comm.rank() + 1));
  large.back() = static_cast<T>(-comm.rank());
  comm.all_reduce(std::span<T>(large), CommOp::sum, "large");
  const auto n = static_cast<T>(comm.size());
  expect(std::count(large.begin(), large.end() - 1, static_cast<T>(n * (n + 1) / 2)) == int64_t{kLarge} - 1 &&
             large.back() == -n * (n - 1) / 2,
         comm, "all_reduce of a large sum");
  for (const int64_t unit : {1, 100, 20001}) {
    const std::vector<int64_t> offsets = uneven(comm.size(), ++salt, unit);
    const auto total = static_cast<size_t>(offsets.back());
    std::vector<T> v = narrowed<T>(made(comm.rank(), total, salt));
    comm.reduce_scatter(std::span<T>(v), offsets, {"scatter", salt});
    const std::vector<T> want = reduced<T>(comm.size(), total, salt, CommOp::sum);
    const auto from = offsets[static_cast<size_t>(comm.rank())],
               to = offsets[static_cast<size_t>(comm.rank()) + 1];
    expect(std::equal(v.begin() + from, v.begin() + to, want.begin() + from), comm,
           "reduce_scatter of " + std::to_string(total));
  }
}

void check_moves(Comm& comm) {
  int64_t salt = 1000;
  for (const size_t n : kSizes)
    for (int root = 0; root < comm.size(); ++root) {
      std::vector<int64_t> v = made(comm.rank(), n, ++salt);
      comm.broadcast(writable_bytes_of(std::span(v)), root, "broadcast");
      expect(v == made(root, n, salt), comm, "broadcast of " + std::to_string(n));
    }
  std::vector<int64_t> large = made(comm.rank(), kLarge, ++salt);
  comm.broadcast(writable_bytes_of(std::span(large)), comm.size() - 1, "large");
  expect(large == made(comm.size() - 1, kLarge, salt), comm, "a large broadcast");
  for (const int64_t unit : {1, 100, 20001})
    for (const bool in_place : {false, true}) {
      const std::vector<int64_t> offsets = uneven(comm.size(), ++salt, unit);
      const auto mine = static_cast<size_t>(comm.rank());
      const auto n = static_cast<size_t>(offsets.back());
      std::vector<int64_t> want, all(n, -1);
      for (int r = 0; r < comm.size(); ++r)
        for (const int64_t x :
             made(r,
                  static_cast<size_t>(offsets[static_cast<size_t>(r) + 1] - offsets[static_cast<size_t>(r)]),
                  salt))
          want.push_back(x);
      std::vector<int64_t> own =
          made(comm.rank(), static_cast<size_t>(offsets[mine + 1] - offsets[mine]), salt);
      std::span<const int64_t> from = own;
      if (in_place) {
        std::copy(own.begin(), own.end(), all.begin() + offsets[mine]);
        from = std::span(all).subspan(static_cast<size_t>(offsets[mine]), own.size());
      }
      comm.all_gather(std::as_bytes(from), writable_bytes_of(std::span(all)), in_bytes(offsets), "gather");
      expect(all == want, comm, "all_gather of " + std::to_string(n));
    }
}

// Rank r sends (r + 2 * to + salt) % 4 * unit elements to rank `to`.
void check_exchange(Comm& comm, int64_t unit) {
  const auto amount = [&](int from, int to) { return (from + 2 * to + 1) % 4 * unit; };
  std::vector<int64_t> out(1, 0), in(1, 0), send, want;
  for (int r = 0; r < comm.size(); ++r) {
    out.push_back(out.back() + amount(comm.rank(), r));
    in.push_back(in.back() + amount(r, comm.rank()));
    for (const int64_t x : made(comm.rank(), static_cast<size_t>(amount(comm.rank(), r)), r))
      send.push_back(x);
    for (const int64_t x : made(r, static_cast<size_t>(amount(r, comm.rank())), comm.rank()))
      want.push_back(x);
  }
  std::vector<int64_t> recv(static_cast<size_t>(in.back()), -1);
  comm.all_to_all(bytes_of(std::span(send)), in_bytes(out), writable_bytes_of(std::span(recv)), in_bytes(in),
                  "exchange");
  expect(recv == want, comm, "all_to_all in units of " + std::to_string(unit));
}

void check_messages(Comm& comm) {
  const int n = comm.size(), right = (comm.rank() + 1) % n, left = (comm.rank() + n - 1) % n;
  if (n == 1) return;
  for (const size_t size : {size_t{0}, size_t{5}, size_t{9000}, size_t{300007}}) {
    // Posted in another order than sent: tags match.
    std::vector<int64_t> a(size), b(size);
    const std::vector<int64_t> first = made(comm.rank(), size, 1), second = made(comm.rank(), size, 2);
    CommHandle in_b = comm.irecv(writable_bytes_of(std::span(b)), left, 2, "b");
    CommHandle out_a = comm.isend(bytes_of(std::span(first)), right, 1, "a");
    CommHandle out_b = comm.isend(bytes_of(std::span(second)), right, 2, "b");
    CommHandle in_a = comm.irecv(writable_bytes_of(std::span(a)), left, 1, "a");
    out_a.wait();
    in_b.wait();
    in_a.wait();
    while (!out_b.done()) {
    }
    out_b.wait();
    expect(a == made(left, size, 1) && b == made(left, size, 2), comm, "messages of " + std::to_string(size));
  }
  // A stream of one tag keeps its order; a pipeline passes along the ranks.
  int64_t sum = 0;
  for (int64_t i = 0; i < 50; ++i) {
    int64_t x = 0;
    if (comm.rank() > 0) comm.recv(std::as_writable_bytes(std::span(&x, 1)), left, 7, {"stream", i});
    x += i;
    if (comm.rank() + 1 < n) comm.send(std::as_bytes(std::span(&x, 1)), right, 7, {"stream", i});
    sum += x;
  }
  expect(sum == 1225 * (comm.rank() + 1), comm, "a stream of messages");
}

void check_groups(Comm& comm) {
  const int n = comm.size(), half = (n + 1) / 2;
  // Reversed ranks, in two halves; rank n - 1 of three and more stays out.
  const bool out = n >= 3 && comm.rank() == n - 1;
  const std::unique_ptr<Comm> part = comm.split(out ? -1 : comm.rank() / half, -comm.rank(), "half");
  expect((part == nullptr) == out, comm, "who is in a group");
  if (part) {
    const int first = comm.rank() / half * half;
    const int last = std::min({first + half, n, n >= 3 ? n - 1 : n});
    expect(part->size() == last - first && part->rank() == last - 1 - comm.rank(), comm, "ranks of a group");
    const int64_t sum = all_reduce_one(*part, comm.rank(), CommOp::sum, "sum");
    expect(sum == (first + last - 1) * (last - first) / 2, comm, "sum in a group");
    expect(part->name() == "half", comm, "name of a group");
    check_exchange(*part, 3000);
  }
  comm.barrier("groups");
}

}  // namespace

void check_collectives(Comm& comm) {
  comm.barrier("begin");
  check_reductions<int64_t>(comm);
  check_reductions<int32_t>(comm);
  check_moves(comm);
  for (const int64_t unit : {1, 5000}) check_exchange(comm, unit);
  check_messages(comm);
  check_groups(comm);
  const std::vector<std::string> texts =
      all_gather_text(comm, std::string(static_cast<size_t>(comm.rank()) * 3, 'x'), "texts");
  for (size_t r = 0; r < texts.size(); ++r) expect(texts[r].size() == r * 3, comm, "texts");
}

void check_counters(Comm& comm, bool shared) {
  const int64_t n = comm.size(), rank = comm.rank();
  if (n == 1) return;
  comm.barrier("start");
  comm.reset_counts();
  const auto is = [&](CommKind kind, int64_t messages, int64_t bytes, const char* what) {
    const CommCount c = comm.counts()[kind];
    expect(c == CommCount{1, messages, bytes}, comm,
           std::string(what) + ": " + std::to_string(c.messages) + " messages of " + std::to_string(c.bytes) +
               " bytes, the formula says " + std::to_string(messages) + " of " + std::to_string(bytes));
  };
  int64_t rounds = 0;
  while ((1 << rounds) < n) ++rounds;
  comm.barrier("counted");
  is(CommKind::barrier, rounds, 0, "barrier");
  // Even pieces of 1,024 words: a ring and a direct exchange send the same.
  const int64_t words = 1024 * n * (n + 1), bytes = words * 8;
  std::vector<int64_t> v(static_cast<size_t>(words), rank);
  comm.all_reduce(v, CommOp::sum, "counted");
  is(CommKind::all_reduce, 2 * (n - 1), 2 * (n - 1) * bytes / n, "all_reduce");
  // Uneven pieces: r + 1 units for rank r.
  std::vector<int64_t> offsets(1, 0);
  for (int64_t r = 0; r < n; ++r) offsets.push_back(offsets.back() + (r + 1) * 2048);
  comm.reduce_scatter(v, offsets, "counted");
  const int64_t own = (rank + 1) * 2048 * 8, right = ((rank + 1) % n + 1) * 2048 * 8;
  is(CommKind::reduce_scatter, n - 1, bytes - own, "reduce_scatter");
  std::vector<int64_t> mine(static_cast<size_t>(own / 8), rank);
  comm.all_gather(bytes_of(std::span(mine)), writable_bytes_of(std::span(v)), in_bytes(offsets), "counted");
  const bool straight = shared || bytes <= 64 << 10;
  is(CommKind::all_gather, n - 1, straight ? own * (n - 1) : bytes - right, "all_gather");
  comm.barrier("end");
}

}  // namespace llmctl
