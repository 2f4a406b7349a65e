// SPDX-License-Identifier: Apache-2.0
#include "core/train/pipeline.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "kernels/error.h"

namespace llmctl {
namespace {

std::string name_of(PipeOp op) {
  constexpr const char* names[] = {"forward", "backward", "backward_input", "backward_weight"};
  return names[static_cast<size_t>(op)];
}

std::string text(const PipeAction& a) {
  return name_of(a.op) + " of unit " + std::to_string(a.unit) + ", stage " + std::to_string(a.stage);
}

// What passes from stage to stage: activations upwards, gradients downwards.
struct Message {
  bool gradient;
  int unit, stage;  // the stage that uses it
};

std::string text(const Message& m) {
  return std::string(m.gradient ? "the gradient" : "the activation") + " for unit " + std::to_string(m.unit) +
         ", stage " + std::to_string(m.stage);
}

// What an action needs from the stage before or behind it.
std::optional<Message> input_of(const PipeSchedule& s, const PipeAction& a) {
  if (a.op == PipeOp::forward && a.stage > 0) return Message{false, a.unit, a.stage};
  if ((a.op == PipeOp::backward || a.op == PipeOp::backward_input) && a.stage + 1 < s.stages)
    return Message{true, a.unit, a.stage};
  return {};
}

std::optional<Message> output_of(const PipeSchedule& s, const PipeAction& a) {
  if (a.op == PipeOp::forward && a.stage + 1 < s.stages) return Message{false, a.unit, a.stage + 1};
  if ((a.op == PipeOp::backward || a.op == PipeOp::backward_input) && a.stage > 0)
    return Message{true, a.unit, a.stage - 1};
  return {};
}

// The rank at the other end of a message; the same one where stages of one rank follow each other.
int sender_of(const PipeSchedule& s, const Message& m) {
  return (m.stage + (m.gradient ? 1 : -1)) % s.ranks;
}

// A value for each (unit, stage).
template <class T>
class Grid {
 public:
  Grid(const PipeSchedule& s, T value)
      : stages_(s.stages), values_(static_cast<size_t>(s.units) * static_cast<size_t>(s.stages), value) {}
  T& at(int unit, int stage) {
    return values_[static_cast<size_t>(unit) * static_cast<size_t>(stages_) + static_cast<size_t>(stage)];
  }

 private:
  int stages_;
  std::vector<T> values_;
};

// How far each (unit, stage) has come.
struct Progress {
  explicit Progress(const PipeSchedule& s) : forward(s, 0), input(s, 0), weight(s, 0) {}
  Grid<char> forward, input, weight;

  std::string breach(const PipeSchedule& s, const PipeAction& a) {
    const bool does_input = a.op == PipeOp::backward || a.op == PipeOp::backward_input;
    const bool does_weight = a.op == PipeOp::backward || a.op == PipeOp::backward_weight;
    char &f = forward.at(a.unit, a.stage), &i = input.at(a.unit, a.stage), &w = weight.at(a.unit, a.stage);
    if ((a.op == PipeOp::forward && f) || (does_input && i) || (does_weight && w)) return "comes twice";
    if (a.op != PipeOp::forward && !f) return "comes before its forward";
    if (a.op == PipeOp::backward_weight && !i) return "comes before its backward_input";
    // Between the stages of one rank nothing is sent that could be waited for.
    if (s.ranks == 1 && a.op == PipeOp::forward && a.stage > 0 && !forward.at(a.unit, a.stage - 1))
      return "comes before the stage below it";
    if (s.ranks == 1 && does_input && a.stage + 1 < s.stages && !input.at(a.unit, a.stage + 1))
      return "comes before the stage above it";
    f = f || a.op == PipeOp::forward, i = i || does_input, w = w || does_weight;
    return "";
  }
};

// The ranks at work, each at an action, first receiving what it needs, then sending what it made.
class Execution {
 public:
  Execution(const PipeSchedule& s, int outstanding)
      : s_(s),
        outstanding_(outstanding),
        at_(s.of_rank.size()),
        sends_(s.of_rank.size()),
        waiting_(s.of_rank.size() * s.of_rank.size()),
        activation_(s, 0),
        gradient_(s, 0) {}

  std::string run() {
    for (bool moved = true; moved;) {
      moved = false;
      for (int rank = 0; rank < s_.ranks; ++rank)
        while (step(rank)) moved = true;
    }
    std::string stuck;
    for (int rank = 0; rank < s_.ranks; ++rank)
      if (const PipeAction* a = current(rank)) stuck += (stuck.empty() ? "" : "; ") + wait_text(rank, *a);
    return stuck;
  }

 private:
  const PipeAction* current(int rank) const {
    const size_t r = static_cast<size_t>(rank);
    return at_[r] < s_.of_rank[r].size() ? &s_.of_rank[r][at_[r]] : nullptr;
  }
  char& sent(const Message& m) { return (m.gradient ? gradient_ : activation_).at(m.unit, m.stage); }
  int& waiting(int from, int to) {
    return waiting_[static_cast<size_t>(from) * s_.of_rank.size() + static_cast<size_t>(to)];
  }
  bool remote(const std::optional<Message>& m) const { return m && s_.ranks > 1; }

  bool receives(int rank, const Message& m) const {
    const PipeAction* a = current(rank);
    if (!a || sends_[static_cast<size_t>(rank)]) return false;
    const auto in = input_of(s_, *a);
    return in && in->gradient == m.gradient && in->unit == m.unit && in->stage == m.stage;
  }

  // True when the rank got on: from receiving to sending, or to its next action.
  bool step(int rank) {
    const PipeAction* a = current(rank);
    if (!a) return false;
    char& sending = sends_[static_cast<size_t>(rank)];
    if (!sending) {
      if (const auto in = input_of(s_, *a); remote(in)) {
        if (!sent(*in)) return false;
        --waiting(sender_of(s_, *in), rank);
      }
      sending = 1;
      return true;
    }
    if (const auto out = output_of(s_, *a); remote(out)) {
      const int to = out->stage % s_.ranks;
      const bool free = outstanding_ > 0 ? waiting(rank, to) < outstanding_ : receives(to, *out);
      if (!free) return false;
      sent(*out) = 1;
      ++waiting(rank, to);
    }
    sending = 0;
    ++at_[static_cast<size_t>(rank)];
    return true;
  }

  std::string wait_text(int rank, const PipeAction& a) const {
    const std::string who = "rank " + std::to_string(rank) + ", " + text(a) + ", ";
    if (!sends_[static_cast<size_t>(rank)]) {
      const Message in = *input_of(s_, a);
      return who + "waits for " + text(in) + " from rank " + std::to_string(sender_of(s_, in));
    }
    const Message out = *output_of(s_, a);
    return who + "waits until rank " + std::to_string(out.stage % s_.ranks) + " receives before it can send " +
           text(out);
  }

  const PipeSchedule& s_;
  int outstanding_;
  std::vector<size_t> at_;
  std::vector<char> sends_;   // by rank: has received, is to send
  std::vector<int> waiting_;  // messages sent and not received, by sender and receiver
  Grid<char> activation_, gradient_;
};

double duration(const PipeAction& a, const PipeCosts& c) {
  switch (a.op) {
    case PipeOp::forward:
      return c.forward;
    case PipeOp::backward:
      return c.backward_input + c.backward_weight;
    case PipeOp::backward_input:
      return c.backward_input;
    case PipeOp::backward_weight:
      return c.backward_weight;
  }
  return 0;
}

int most_alive(const std::vector<PipeAction>& actions) {
  int alive = 0, most = 0;
  for (const PipeAction& a : actions) {
    alive += a.op == PipeOp::forward ? 1 : a.op == PipeOp::backward_input ? 0 : -1;
    most = std::max(most, alive);
  }
  return most;
}

// When each message was made; negative: not yet.
struct Ready {
  explicit Ready(const PipeSchedule& s) : activation(s, -1), gradient(s, -1) {}
  double& at(const Message& m) { return (m.gradient ? gradient : activation).at(m.unit, m.stage); }
  Grid<double> activation, gradient;
};

void time_actions(const PipeSchedule& s, const PipeCosts& costs, PipeTimes& t) {
  Ready ready(s);
  const double hop = s.ranks > 1 ? costs.send : 0;
  for (bool moved = true; moved;) {
    moved = false;
    for (size_t rank = 0; rank < s.of_rank.size(); ++rank) {
      std::vector<PipeSpan>& spans = t.of_rank[rank];
      while (spans.size() < s.of_rank[rank].size()) {
        const PipeAction& a = s.of_rank[rank][spans.size()];
        const auto in = input_of(s, a);
        if (in && ready.at(*in) < 0) break;
        const double free = spans.empty() ? 0 : spans.back().end;
        const double begin = in ? std::max(free, ready.at(*in) + hop) : free;
        spans.push_back({a, begin, begin + duration(a, costs)});
        if (const auto out = output_of(s, a)) ready.at(*out) = spans.back().end;
        moved = true;
      }
    }
  }
}

std::string label(const PipeSchedule& s, const PipeAction& a) {
  std::string l = std::string(1, "FBIW"[static_cast<size_t>(a.op)]) + std::to_string(a.unit);
  if (s.stages > s.ranks) l += static_cast<char>('a' + a.stage / s.ranks % 26);
  return l;
}

}  // namespace

std::string schedule_fault(const PipeSchedule& s) {
  if (s.ranks < 1 || s.units < 1 || s.stages % s.ranks != 0 || s.of_rank.size() != static_cast<size_t>(s.ranks))
    return std::to_string(s.stages) + " stages over " + std::to_string(s.ranks) + " ranks with " +
           std::to_string(s.of_rank.size()) + " lists";
  Progress progress(s);
  for (int rank = 0; rank < s.ranks; ++rank)
    for (const PipeAction& a : s.of_rank[static_cast<size_t>(rank)]) {
      std::string breach;
      if (a.unit < 0 || a.unit >= s.units || a.stage < 0 || a.stage >= s.stages)
        breach = "is none of " + std::to_string(s.units) + " units and " + std::to_string(s.stages) + " stages";
      else if (a.stage % s.ranks != rank)
        breach = "belongs to rank " + std::to_string(a.stage % s.ranks);
      else
        breach = progress.breach(s, a);
      if (!breach.empty()) return "rank " + std::to_string(rank) + ": " + text(a) + " " + breach;
    }
  for (int unit = 0; unit < s.units; ++unit)
    for (int stage = 0; stage < s.stages; ++stage)
      if (!progress.weight.at(unit, stage))
        return "rank " + std::to_string(stage % s.ranks) + ": the backward of unit " + std::to_string(unit) +
               ", stage " + std::to_string(stage) + " is missing";
  return "";
}

std::string schedule_deadlock(const PipeSchedule& s, int outstanding) {
  return Execution(s, outstanding).run();
}

int outstanding_needed(const PipeSchedule& s, int most) {
  for (int n = 0; n <= most; ++n)
    if (schedule_deadlock(s, n).empty()) return n;
  return -1;
}

PipeTimes simulate(const PipeSchedule& s, const PipeCosts& costs) {
  const std::string fault = schedule_fault(s);
  check(fault.empty(), Code::input, "[pipeline] ", fault);
  const std::string stuck = schedule_deadlock(s, s.units * s.stages * 2);
  check(stuck.empty(), Code::input, "[pipeline] deadlock: ", stuck);
  PipeTimes t;
  t.of_rank.resize(s.of_rank.size());
  time_actions(s, costs, t);
  double busy_of_all = 0;
  for (const auto& spans : t.of_rank) t.makespan = std::max(t.makespan, spans.back().end);
  for (size_t rank = 0; rank < s.of_rank.size(); ++rank) {
    double busy = 0;
    for (const PipeAction& a : s.of_rank[rank]) busy += duration(a, costs);
    busy_of_all += busy;
    t.bubble_of_rank.push_back(1 - busy / t.makespan);
    t.alive_of_rank.push_back(most_alive(s.of_rank[rank]));
  }
  t.bubble = 1 - busy_of_all / (t.makespan * s.ranks);
  return t;
}

std::string draw(const PipeSchedule& s, const PipeCosts& costs, double slot, int columns) {
  check(slot > 0 && columns > 0, Code::input, "[pipeline] a slot of ", slot, " and ", columns, " columns");
  const PipeTimes t = simulate(s, costs);
  size_t width = 0;
  for (const auto& actions : s.of_rank)
    for (const PipeAction& a : actions) width = std::max(width, label(s, a).size() + 1);
  std::string out;
  for (const auto& spans : t.of_rank) {
    std::vector<std::string> cells(static_cast<size_t>(std::min<double>(columns, std::ceil(t.makespan / slot - 1e-9))),
                                   ".");
    for (const PipeSpan& span : spans) {
      const size_t first = static_cast<size_t>(std::lround(span.begin / slot));
      const size_t last = std::max(first + 1, static_cast<size_t>(std::lround(span.end / slot)));
      for (size_t i = first; i < std::min(last, cells.size()); ++i) cells[i] = i == first ? label(s, span.action) : "=";
    }
    std::string line;
    for (const std::string& cell : cells) line += cell + std::string(width - cell.size(), ' ');
    line.resize(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  return out;
}

}  // namespace llmctl
