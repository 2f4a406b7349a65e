// SPDX-License-Identifier: Apache-2.0
// What every engine must do, each collective against a serial result. Runs inside a rank, so it throws
// instead of asserting.
#pragma once

#include <functional>

#include "core/base/comm.h"

namespace llmctl {

// Sizes, roots, uneven and empty pieces, large messages, tags, groups. Throws Error{no} at the first
// difference.
void check_collectives(Comm& comm);
// Counters against the formulas of group_comm.h. shared: the engine's ranks share memory.
void check_counters(Comm& comm, bool shared);

// Runs rank_main on each of n ranks of an engine.
using RunRanks = std::function<void(int ranks, const std::function<void(Comm&)>& rank_main)>;

}  // namespace llmctl
