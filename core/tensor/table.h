// SPDX-License-Identifier: Apache-2.0
// One table of parameters per architecture. It is said once and drives loading, saving,
// initialisation, optimiser groups, sharding, quantisation, planning and `model inspect`.
//
// A Weight is what kernels see: one matrix (rows, cols) that may stack several named parameters by
// rows (Q, K and V). A Param is what files see: one tensor under its Hugging Face name.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/leaves.h"

namespace llmctl {

enum class Role : uint8_t {
  linear,  // operand of Gemm: lives in panels, quantisable
  table,   // rows are looked up by id; also a linear when the head is tied to it
  vector   // norm weights and biases
};
enum class Init : uint8_t { normal, ones, zeros };
enum class ShardDim : uint8_t { none, rows, cols };  // which dimension tensor parallelism cuts

struct Param {
  std::string name;             // Hugging Face tensor name
  int64_t rows = 0, cols = 1;   // as in memory: (out, in); vectors are (n, 1) and 1-d in files
  bool transposed = false;      // the file holds (cols, rows) (GPT-2's Conv1D)
  Init init = Init::normal;
  float init_std = 0.02f;
  bool decay = true;
  ShardDim shard = ShardDim::none;
  // Names under which other files may hold the same tensor (a missing "model." prefix).
  std::vector<std::string> aliases = {};
};

struct Weight {
  std::string name;
  Role role = Role::linear;
  std::vector<Param> params;
  bool tied_head = false;  // a table that is the LM head too
  int64_t padded_rows = 0;  // rows in memory, zero beyond the parameters' (vocabulary padding)
  // Contraction of the forward product (over cols) and of the backward one (over rows).
  kn::Leaves forward, backward;
  kn::Bf16Order order = kn::Bf16Order::pair;  // of its products
  bool dealt = false;       // of its gradient each tensor-parallel rank makes some elements, the others stay zero
  bool quantisable = true;  // a linear that `quantize` may store in few bits

  int64_t rows() const;  // of the parameters
  int64_t cols() const { return params.front().cols; }
  bool multiplies() const { return role == Role::linear || tied_head; }
  // A matrix of a block: what Muon updates. Tables and the head are not, whatever their shape.
  bool hidden() const { return role == Role::linear && name.starts_with("blocks."); }
};

using Table = std::vector<Weight>;
int64_t parameter_count(const Table& table);
// Position of the named weight; Error{bug} when there is none.
int index_of(const Table& table, const std::string& weight);

// NUMERICS rule 3: the largest power of two up to 8 that leaves at least 256 elements per leaf.
int default_leaves(int64_t width);

}  // namespace llmctl
