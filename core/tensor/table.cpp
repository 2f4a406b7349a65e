// SPDX-License-Identifier: Apache-2.0
#include "core/tensor/table.h"

#include "kernels/error.h"

namespace llmctl {

int64_t Weight::rows() const {
  int64_t n = 0;
  for (const Param& p : params) n += p.rows;
  return n;
}

int64_t parameter_count(const Table& table) {
  int64_t n = 0;
  for (const Weight& w : table) n += w.rows() * w.cols();
  return n;
}

int index_of(const Table& table, const std::string& weight) {
  for (size_t i = 0; i < table.size(); ++i)
    if (table[i].name == weight) return static_cast<int>(i);
  throw Error(Code::bug, "[table] no weight named " + weight);
}

int default_leaves(int64_t width) {
  int leaves = 8;
  while (leaves > 1 && width / leaves < 256) leaves /= 2;
  return leaves;
}

}  // namespace llmctl
