// SPDX-License-Identifier: Apache-2.0
#include "core/nn/slice_exchange.h"

#include <algorithm>
#include <cstring>

#include "core/nn/parameters.h"
#include "kernels/basic.h"

namespace llmctl {
namespace {

constexpr int64_t kRoundElements = int64_t{1} << 20;  // of weights that pass at once

// Pieces for the ranks one after another in memory.
struct Parcels {
  View memory;
  std::vector<int64_t> offsets{0};  // bytes
  std::byte* at(int rank) const { return static_cast<std::byte*>(memory.data) + offsets[static_cast<size_t>(rank)]; }
  void add(int64_t bytes) { offsets.push_back(offsets.back() + bytes); }
  std::span<std::byte> all() const { return {static_cast<std::byte*>(memory.data), static_cast<size_t>(offsets.back())}; }
};

View behind(const View& memory, int64_t bytes) {
  return View(static_cast<std::byte*>(memory.data) + bytes, DType::u8, {memory.size() - bytes});
}

int64_t aligned(int64_t bytes) { return (bytes + 63) / 64 * 64; }

// Columns [first, first + cols) of rows of `stride` elements, packed or unpacked by f(packed, wide, bytes).
template <class Copy>
void by_rows(const kn::Exec& exec, int64_t rows, int64_t cols, std::byte* packed, std::byte* wide, int64_t stride, int64_t first,
             int64_t size, Copy&& copy) {
  if (cols == stride) {  // one run
    constexpr int64_t kTask = 16384;
    const int64_t n = rows * cols;
    kn::parallel_for(exec, (n + kTask - 1) / kTask, [&](int64_t t) {
      copy(packed + t * kTask * size, wide + t * kTask * size, std::min(kTask, n - t * kTask) * size);
    });
    return;
  }
  kn::parallel_for(exec, rows, [&](int64_t r) { copy(packed + r * cols * size, wide + (r * stride + first) * size, cols * size); });
}

void add_words(const std::byte* from, std::byte* to, int64_t bytes) {
  auto* y = reinterpret_cast<uint64_t*>(to);
  const auto* x = reinterpret_cast<const uint64_t*>(from);
  for (int64_t i = 0; i < bytes / 8; ++i) y[i] += x[i];
}

}  // namespace

SliceExchange::SliceExchange(const Slicing& slicing, const Sharding& sharding, DType compute, const std::vector<WeightState>& weights)
    : rank_(sharding.rank), ranks_(sharding.ranks), compute_(compute) {
  for (const WeightState& w : weights) {
    borders_.push_back(w.borders);
    cols_.push_back(w.spec.cols());
    std::vector<Slice>& of = slices_.emplace_back();
    for (int r = 0; r < ranks_; ++r) of.push_back(slicing.slice(w.spec, r));
  }
}

SliceExchange::Rounds SliceExchange::rounds_of(const std::vector<WeightState>& weights, const std::vector<size_t>& which) const {
  Rounds rounds;
  int64_t room = 0;
  for (const size_t i : which) {
    const int64_t rows = weights[i].spec.padded_rows, cols = weights[i].spec.cols();
    if (rows * cols <= room) {
      rounds.of.back().of.push_back({i, {0, rows}});
      room -= rows * cols;
      continue;
    }
    const int64_t step = std::max<int64_t>(1, kRoundElements / cols);
    for (int64_t at = 0; at < rows; at += step)
      rounds.of.push_back({{{i, {at, std::min(step, rows - at)}}}, at + step >= rows});
    room = rows <= step ? kRoundElements - rows * cols : 0;
  }
  for (const Round& round : rounds.of) measure(round, weights, rounds);
  return rounds;
}

template <class Visit>
void SliceExchange::each_piece(const Round& round, int holder, int owner, Visit&& visit) const {
  for (const Rows& r : round.of) {
    const Slice& slice = slices_[r.weight][static_cast<size_t>(holder)];
    const auto o = static_cast<size_t>(owner);
    const int64_t from = std::max(r.rows.begin, borders_[r.weight][o]);
    const int64_t to = std::min(r.rows.begin + r.rows.count, borders_[r.weight][o + 1]);
    int64_t before = 0;
    for (const RowRange& run : slice.rows) {
      const int64_t lo = std::max(from, run.begin), hi = std::min(to, run.begin + run.count);
      if (lo < hi) visit(Piece{r.weight, &slice, before + lo - run.begin, {lo, hi - lo}});
      before += run.count;
    }
  }
}

int64_t SliceExchange::elements(const Round& round, int holder, int owner, bool counting) const {
  int64_t n = 0;
  each_piece(round, holder, owner, [&](const Piece& p) { n += counting && !p.slice->counts ? 0 : p.elements(); });
  return n;
}

void SliceExchange::measure(const Round& round, const std::vector<WeightState>& weights, Rounds& rounds) const {
  int64_t sent = 0, summed = 0, spread = 0, come = 0, mine = 0, slices = 0;
  for (int r = 0; r < ranks_; ++r) {
    sent += elements(round, rank_, r, true), summed += elements(round, r, rank_, true);
    spread += elements(round, r, rank_, false), come += elements(round, rank_, r, false);
  }
  for (const Rows& r : round.of) {
    if (weights[r.weight].comes) continue;
    const auto& b = borders_[r.weight];
    const auto m = static_cast<size_t>(rank_);
    const Slice& slice = slices_[r.weight][m];
    mine = std::max(mine, (std::min(r.rows.begin + r.rows.count, b[m + 1]) - std::max(r.rows.begin, b[m])) * cols_[r.weight]);
    slices += aligned(slice.row_count() * slice.cols * size_of(compute_));
  }
  const int64_t size = size_of(compute_);
  rounds.gradient_bytes = std::max(rounds.gradient_bytes, aligned(8 * sent) + aligned(8 * summed));
  rounds.weight_bytes = std::max(rounds.weight_bytes, slices + aligned(size * spread) + aligned(size * come) + aligned(size * mine));
}

void SliceExchange::sum_gradients(const Rounds& rounds, const Peers& peers, std::vector<WeightState>& weights, const View& memory,
                                  const kn::Exec& exec, CommLabel label) const {
  for (const Round& round : rounds.of) {
    Parcels send{memory}, recv;
    for (int r = 0; r < peers.count; ++r) send.add(8 * elements(round, rank_, peers.first + r, true));
    recv.memory = behind(memory, aligned(send.offsets.back()));
    for (int r = 0; r < peers.count; ++r) recv.add(8 * elements(round, peers.first + r, rank_, true));
    for (int r = 0; r < peers.count; ++r) {
      std::byte* to = send.at(r);
      each_piece(round, rank_, peers.first + r, [&](const Piece& p) {
        if (!p.slice->counts) return;
        const int64_t bytes = 8 * p.elements();
        std::memcpy(to, weights[p.weight].grad.as<std::byte>() + 8 * p.slice_row * p.slice->cols, static_cast<size_t>(bytes));
        to += bytes;
      });
    }
    peers.comm->all_to_all(send.all(), send.offsets, recv.all(), recv.offsets, label);
    for (int r = 0; r < peers.count; ++r) {
      std::byte* from = recv.at(r);
      each_piece(round, peers.first + r, rank_, [&](const Piece& p) {
        if (!p.slice->counts) return;
        WeightState& w = weights[p.weight];
        const int64_t stride = w.spec.cols();
        std::byte* sum = w.sum.as<std::byte>() + 8 * (p.rows.begin - w.own.begin) * stride;
        by_rows(exec, p.rows.count, p.slice->cols, from, sum, stride, p.slice->first_col, 8, add_words);
        from += 8 * p.elements();
      });
    }
  }
}

// The rows that are owned here, in the compute dtype, to the parcels of the ranks that hold some of them.
void SliceExchange::pack(const Round& round, const Peers& peers, const std::vector<WeightState>& weights, const View& rounded,
                         std::vector<std::byte*> to, const kn::Exec& exec) const {
  const int64_t size = size_of(compute_);
  for (const Rows& rows : round.of) {
    const Round alone{{rows}};
    const WeightState& w = weights[rows.weight];
    const int64_t stride = w.spec.cols(), first = std::max(rows.rows.begin, w.own.begin);
    const int64_t count = std::min(rows.rows.begin + rows.rows.count, w.own.begin + w.own.count) - first;
    if (count <= 0) continue;
    const int64_t before = (first - w.own.begin) * stride;
    if (!w.comes)
      kn::run(kn::Convert{.x = View(w.master.as<float>() + before, DType::f32, {count * stride}),
                          .y = View(rounded.data, compute_, {count * stride})}, exec);
    std::byte* const own = w.comes ? w.mine.as<std::byte>() + before * size : rounded.as<std::byte>();
    for (int r = 0; r < peers.count; ++r)
      each_piece(alone, peers.first + r, rank_, [&](const Piece& p) {
        std::byte*& at = to[static_cast<size_t>(r)];
        by_rows(exec, p.rows.count, p.slice->cols, at, own + (p.rows.begin - first) * stride * size, stride, p.slice->first_col, size,
                [](std::byte* packed, const std::byte* wide, int64_t bytes) { std::memcpy(packed, wide, static_cast<size_t>(bytes)); });
        at += p.elements() * size;
      });
  }
}

void SliceExchange::spread_weights(const Rounds& rounds, const Peers& peers, std::vector<WeightState>& weights, const View& memory,
                                   const kn::Exec& exec, const Done& done) const {
  const int64_t size = size_of(compute_);
  for (const Round& round : rounds.of) {
    std::vector<View> slices;
    int64_t used = 0;
    for (const Rows& r : round.of) {
      const WeightState& w = weights[r.weight];
      const Slice& s = slices_[r.weight][static_cast<size_t>(rank_)];
      slices.emplace_back(w.comes ? w.whole.data : memory.as<std::byte>() + used, compute_, std::initializer_list<int64_t>{s.row_count(), s.cols});
      if (!w.comes) used += aligned(slices.back().bytes());
    }
    Parcels send{behind(memory, used)}, recv;
    for (int r = 0; r < peers.count; ++r) send.add(size * elements(round, peers.first + r, rank_, false));
    recv.memory = behind(send.memory, aligned(send.offsets.back()));
    for (int r = 0; r < peers.count; ++r) recv.add(size * elements(round, rank_, peers.first + r, false));
    std::vector<std::byte*> to;
    for (int r = 0; r < peers.count; ++r) to.push_back(send.at(r));
    pack(round, peers, weights, behind(recv.memory, aligned(recv.offsets.back())), std::move(to), exec);
    peers.comm->all_to_all(send.all(), send.offsets, recv.all(), recv.offsets, weights[round.of.front().weight].spec.name);
    for (int r = 0; r < peers.count; ++r) {
      const std::byte* from = recv.at(r);
      each_piece(round, rank_, peers.first + r, [&](const Piece& p) {
        size_t i = 0;
        while (round.of[i].weight != p.weight) ++i;
        const int64_t bytes = p.elements() * size;
        std::memcpy(slices[i].as<std::byte>() + p.slice_row * p.slice->cols * size, from, static_cast<size_t>(bytes));
        from += bytes;
      });
    }
    if (!round.last || !done) continue;
    for (size_t i = 0; i < round.of.size(); ++i)
      if (slices[i].size() > 0) done(weights[round.of[i].weight], slices[i]);
  }
}

}  // namespace llmctl
