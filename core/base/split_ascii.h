// SPDX-License-Identifier: Apache-2.0
// Lends the windows of kernels/split_ascii.h to the rooms above core.
#pragma once

#include "kernels/split_ascii.h"

namespace llmctl {

using kn::ascii_cutter;
using kn::AsciiCut;
using kn::AsciiCutter;
using kn::AsciiPattern;

}  // namespace llmctl
