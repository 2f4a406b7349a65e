// SPDX-License-Identifier: Apache-2.0
// Pipeline schedules as data: for each rank, the order in which it computes. Whoever executes one runs the actions of
// its rank in turn, receives just before an action what comes from another rank, and sends what an action has made.
//
//   gpipe        all forwards, then all backwards (Huang et al. 2019); with several chunks a rank, the breadth-first
//                order (Lamy-Poirier 2022): all units of a chunk before the next chunk
//   1f1b         one forward, one backward (Narayanan et al. 2019): rank r holds min(ranks - r, units)
//   interleaved  1F1B over several chunks a rank, units in groups of `ranks` (Narayanan et al. 2021)
//   zero_bubble  ZB-H1 (Qi et al. 2023): the backward pass in two, its weight half in what were gaps; no rank holds
//                more than min(ranks, units)
// Pure functions of their arguments; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace llmctl {

enum class PipeOp : uint8_t { forward, backward, backward_input, backward_weight };  // backward: both halves

struct PipeAction {
  PipeOp op;
  int unit;   // index of the micro-batch among this replica's
  int stage;  // model stage; its rank is stage % ranks
  bool operator==(const PipeAction&) const = default;
};

struct PipeSchedule {
  int ranks = 1, stages = 1, units = 1;  // stages = ranks * model chunks of a rank
  std::vector<std::vector<PipeAction>> of_rank;
};

// Any number of units. Error{input} for a kind that is none, for counts below 1, and for a number of chunks that the
// kind does not take, with the kind that does.
PipeSchedule make_schedule(const std::string& kind, int ranks, int chunks_per_rank, int units);
const std::vector<std::string>& schedule_kinds();

// Empty, or the first breach: an action on the wrong rank, missing or twice, a backward before its forward, a weight
// half before its input half.
std::string schedule_fault(const PipeSchedule& schedule);

// Executes the schedule without time. Sends do not block while fewer than `outstanding` messages to the same peer wait
// to be received; with 0 a send waits until its receiver stands at that very receive. Receives block and are posted
// just before use; messages are told apart by what they are (activation or gradient, unit, stage).
// Empty, or, when all that are left wait, who waits for what.
std::string schedule_deadlock(const PipeSchedule& schedule, int outstanding);
// The smallest number with which schedule_deadlock is empty, at most `most`; -1 when there is none.
int outstanding_needed(const PipeSchedule& schedule, int most = 64);

// Durations of an action of one stage; `send` passes between the end of an action and its use on another rank.
struct PipeCosts {
  double forward = 1, backward_input = 1, backward_weight = 1, send = 0;
};

struct PipeSpan {
  PipeAction action;
  double begin = 0, end = 0;
};

struct PipeTimes {
  double makespan = 0, bubble = 0;  // bubble: idle part of all ranks' time
  std::vector<double> bubble_of_rank;
  std::vector<int> alive_of_rank;  // most (unit, stage) pairs whose activations are alive at once
  std::vector<std::vector<PipeSpan>> of_rank;
};

// Each action as early as its rank and its inputs allow. Error{input} with the fault or the deadlock of a schedule
// that cannot run.
PipeTimes simulate(const PipeSchedule& schedule, const PipeCosts& costs = {});

// One line per rank, one column per `slot` of time: F, B (both halves), I (input half) and W (weight half), the unit,
// and the chunk as a letter when a rank has several. At most `columns` columns.
std::string draw(const PipeSchedule& schedule, const PipeCosts& costs = {}, double slot = 1, int columns = 1 << 20);

}  // namespace llmctl
