// SPDX-License-Identifier: Apache-2.0
// A loop on the threads of an Exec whose body may throw.
#pragma once

#include <cstdint>
#include <functional>

#include "kernels/exec.h"

namespace llmctl {

// body(i) for i in [0, n) on the pool; the exception of the lowest i is thrown again.
void for_each_index(const kn::Exec& exec, int64_t n, const std::function<void(int64_t)>& body);

// body(first, last) for the slices of [0, n) of `width` each, the last may be shorter: for bodies that keep
// memory from one index to the next.
void for_each_slice(const kn::Exec& exec, size_t n, size_t width,
                    const std::function<void(size_t, size_t)>& body);

}  // namespace llmctl
