// SPDX-License-Identifier: Apache-2.0
// Memory as the system counts it, in bytes; 0 where it does not say.
#pragma once

#include <cstdint>

namespace llmctl {

// What this process holds now, and the most it ever held (VmRSS, VmHWM).
int64_t resident_bytes();
int64_t peak_resident_bytes();
// What the system can give without swapping.
int64_t available_bytes();

}  // namespace llmctl
