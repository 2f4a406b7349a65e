// SPDX-License-Identifier: Apache-2.0
// Ranks that are threads of this process. Large messages are copied, or added, once: by the receiver,
// from the sender's memory to its own.
#pragma once

#include <functional>

#include "core/base/comm.h"

namespace llmctl {

// Runs rank_main on `ranks` threads, each with its world, and joins them. When a rank throws, the others'
// calls fail; what the first rank threw that failed by itself is thrown here. timeout in seconds.
void run_threads(int ranks, double timeout, const std::function<void(Comm&)>& rank_main);

}  // namespace llmctl
