// SPDX-License-Identifier: Apache-2.0
// What ranks know in part, on all of them: exact, in any order, on any layout.
#pragma once

#include <span>

#include "core/base/comm.h"
#include "core/base/digest.h"

namespace llmctl {

// Each value is +0 on all ranks but one, whose value it takes: its bits travel as an integer sum.
void add_bits(Comm& comm, std::span<double> values, CommLabel label);
// Sums mod 2^128.
void add_digests(Comm& comm, std::span<Digest> digests, CommLabel label);

}  // namespace llmctl
