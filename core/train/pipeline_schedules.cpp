// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "core/train/pipeline.h"
#include "kernels/error.h"

namespace llmctl {
namespace {

struct Shape {
  int ranks, chunks, units;
};
using Actions = std::vector<PipeAction>;

Actions gpipe(const Shape& s, int rank) {
  Actions a;
  for (int chunk = 0; chunk < s.chunks; ++chunk)
    for (int unit = 0; unit < s.units; ++unit) a.push_back({PipeOp::forward, unit, chunk * s.ranks + rank});
  for (int chunk = s.chunks - 1; chunk >= 0; --chunk)
    for (int unit = 0; unit < s.units; ++unit) a.push_back({PipeOp::backward, unit, chunk * s.ranks + rank});
  return a;
}

// Warm-up forwards, then forward and backward in turns, then what is left of the backwards.
Actions one_forward_one_backward(const Actions& forwards, const Actions& backwards, size_t warm_up) {
  Actions a;
  size_t f = 0, b = 0;
  while (f < std::min(warm_up, forwards.size())) a.push_back(forwards[f++]);
  while (b < backwards.size()) {
    if (f < forwards.size()) a.push_back(forwards[f++]);
    a.push_back(backwards[b++]);
  }
  return a;
}

Actions one_f_one_b(const Shape& s, int rank) {
  Actions forwards, backwards;
  for (int unit = 0; unit < s.units; ++unit) {
    forwards.push_back({PipeOp::forward, unit, rank});
    backwards.push_back({PipeOp::backward, unit, rank});
  }
  return one_forward_one_backward(forwards, backwards, static_cast<size_t>(s.ranks - rank - 1));
}

// A group of units passes through a rank's first chunk, then through its second, ... A group has as many units as there
// are ranks, so that its first has gone through all of them when its last leaves this rank. Units that do not divide
// make groups a little larger, never smaller: a smaller one would wait for itself.
Actions interleaved(const Shape& s, int rank) {
  Actions forwards, backwards;
  const int groups = std::max(1, s.units / s.ranks);
  for (int group = 0, first = 0; group < groups; ++group) {
    const int size = s.units / groups + (group < s.units % groups ? 1 : 0);
    for (int chunk = 0; chunk < s.chunks; ++chunk)
      for (int unit = first; unit < first + size; ++unit) {
        forwards.push_back({PipeOp::forward, unit, chunk * s.ranks + rank});
        backwards.push_back({PipeOp::backward, unit, (s.chunks - 1 - chunk) * s.ranks + rank});
      }
    first += size;
  }
  const int largest = (s.units + groups - 1) / groups;  // the last chunk's first backward waits for this many of each
  return one_forward_one_backward(forwards, backwards,
                                  static_cast<size_t>((s.ranks - rank - 1) * 2 + (s.chunks - 1) * largest));
}

// 1F1B's order of forwards and input halves, laid out in slots of equal length. What is not ready, and a forward that
// would be one unit too many to hold, leaves its slot to a weight half put off before.
struct ZeroBubbleRank {
  int forwards = 0, inputs = 0, weights = 0;
  Actions actions;
};

bool next_action(const Shape& s, const std::vector<ZeroBubbleRank>& before, int rank, PipeAction& next) {
  const size_t r = static_cast<size_t>(rank);
  const ZeroBubbleRank& me = before[r];
  const bool last = rank + 1 == s.ranks;
  const bool forward_is_next = me.forwards < s.units && me.forwards - me.inputs < s.ranks - rank;
  if (!forward_is_next && me.inputs < (last ? me.forwards : before[r + 1].inputs))
    next = {PipeOp::backward_input, me.inputs, rank};
  else if (forward_is_next && me.forwards < (rank == 0 ? s.units : before[r - 1].forwards) &&
           me.forwards - me.weights < s.ranks)
    next = {PipeOp::forward, me.forwards, rank};
  else if (me.weights < me.inputs)
    next = {PipeOp::backward_weight, me.weights, rank};
  else
    return false;
  return true;
}

std::vector<Actions> zero_bubble(const Shape& s) {
  std::vector<ZeroBubbleRank> ranks(static_cast<size_t>(s.ranks));
  auto done = [&](const ZeroBubbleRank& rank) { return rank.weights == s.units; };
  while (!std::all_of(ranks.begin(), ranks.end(), done)) {
    const std::vector<ZeroBubbleRank> before = ranks;  // what is done in a slot is there in the next
    for (int rank = 0; rank < s.ranks; ++rank) {
      PipeAction a{};
      if (!next_action(s, before, rank, a)) continue;
      ZeroBubbleRank& me = ranks[static_cast<size_t>(rank)];
      me.actions.push_back(a);
      ++(a.op == PipeOp::forward ? me.forwards : a.op == PipeOp::backward_input ? me.inputs : me.weights);
    }
  }
  std::vector<Actions> all;
  for (ZeroBubbleRank& rank : ranks) all.push_back(std::move(rank.actions));
  return all;
}

template <Actions (*of_rank)(const Shape&, int)>
std::vector<Actions> each_rank(const Shape& s) {
  std::vector<Actions> all;
  for (int rank = 0; rank < s.ranks; ++rank) all.push_back(of_rank(s, rank));
  return all;
}

struct Kind {
  std::string name;
  std::vector<Actions> (*of_ranks)(const Shape&);
  bool one_chunk, many_chunks;
};

const std::vector<Kind>& kinds() {
  static const std::vector<Kind> all = {{"gpipe", each_rank<gpipe>, true, true},
                                        {"1f1b", each_rank<one_f_one_b>, true, false},
                                        {"interleaved", each_rank<interleaved>, false, true},
                                        {"zero_bubble", zero_bubble, true, false}};
  return all;
}

}  // namespace

const std::vector<std::string>& schedule_kinds() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> n;
    for (const Kind& kind : kinds()) n.push_back(kind.name);
    return n;
  }();
  return names;
}

PipeSchedule make_schedule(const std::string& name, int ranks, int chunks, int units) {
  const auto kind = std::find_if(kinds().begin(), kinds().end(), [&](const Kind& k) { return k.name == name; });
  std::string names;
  for (const std::string& n : schedule_kinds()) names += (names.empty() ? "" : ", ") + n;
  check(kind != kinds().end(), Code::input, "[pipeline] no schedule '", name, "': there are ", names);
  check(ranks >= 1 && chunks >= 1 && units >= 1, Code::input, "[pipeline] ", name, " over ", ranks, " ranks, ", chunks,
        " chunks and ", units, " units: each must be 1 or more");
  check(chunks > 1 || kind->one_chunk, Code::input, "[pipeline] ", name,
        " needs 2 or more model chunks per rank, there is 1: take 1f1b");
  check(chunks == 1 || kind->many_chunks, Code::input, "[pipeline] ", name, " has one model chunk per rank, not ",
        chunks, ": take interleaved or gpipe");
  return {ranks, ranks * chunks, units, kind->of_ranks({ranks, chunks, units})};
}

}  // namespace llmctl
