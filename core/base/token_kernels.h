// SPDX-License-Identifier: Apache-2.0
// Lends the kernels that cut and merge text to the rooms above core.
#pragma once

#include "kernels/merge_pairs.h"
#include "kernels/split_ascii.h"

namespace llmctl {

using kn::ascii_cutter;
using kn::AsciiCut;
using kn::AsciiCutter;
using kn::AsciiPattern;
using kn::kLongestMerge;
using kn::kShortMerge;
using kn::pair_mergers;
using kn::PairMergers;
using kn::PairRanks;
using kn::ShortMerge;

}  // namespace llmctl
