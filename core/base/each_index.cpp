// SPDX-License-Identifier: Apache-2.0
#include "core/base/each_index.h"

#include <algorithm>
#include <exception>
#include <vector>

namespace llmctl {

void for_each_index(const kn::Exec& exec, int64_t n, const std::function<void(int64_t)>& body) {
  std::vector<std::exception_ptr> failed(static_cast<size_t>(n));
  kn::parallel_for(exec, n, [&](int64_t i) {
    try {
      body(i);
    } catch (...) {
      failed[static_cast<size_t>(i)] = std::current_exception();
    }
  });
  for (const std::exception_ptr& e : failed)
    if (e) std::rethrow_exception(e);
}

void for_each_slice(const kn::Exec& exec, size_t n, size_t width,
                    const std::function<void(size_t, size_t)>& body) {
  for_each_index(exec, static_cast<int64_t>((n + width - 1) / width), [&](int64_t i) {
    const size_t first = static_cast<size_t>(i) * width;
    body(first, std::min(n, first + width));
  });
}

}  // namespace llmctl
