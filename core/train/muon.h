// SPDX-License-Identifier: Apache-2.0
// Muon's iteration (Jordan et al. 2024): the update of a hidden matrix becomes the nearest
// semi-orthogonal one, roughly - singular values land in about 0.7 to 1.2 - by Newton-Schulz steps
//   X = update / max(|update|_F, 1e-7);  A = X X^T;  X = a X + (b A + c A A) X
// with (a, b, c) = (3.4445, -4.7750, 2.0315), on the side where A is small. It runs on the whole
// logical matrix (a Param: q, k and v of Llama are three, GPT-2's c_attn is one, as PyTorch users have
// them) with the canonical GEMM and the tree of norms, so the bits are the GEMM's: any-isa. In f32:
// on a CPU bf16 products save nothing here that converting their operands does not cost.
#pragma once

#include "core/tensor/arena.h"
#include "kernels/exec.h"

namespace llmctl {

// Scratch for one matrix (rows, cols), r = min(rows, cols), c = max(rows, cols).
struct MuonScratch {
  View update;      // (rows, cols) f32
  View x;           // (r, c) f32: update itself unless rows > cols
  View gram, poly;  // (r, r) f32
  View panels;      // f32: of the product in hand
  View norms;       // f64 tiles of update, as i64
};
// From the arena, in the order of the members.
MuonScratch muon_scratch(Arena& arena, int64_t rows, int64_t cols);

// Orthogonalises s.update in place. Returns the factor it must still be multiplied by.
float orthogonalize(const MuonScratch& s, int64_t steps, const kn::Exec& exec);

}  // namespace llmctl
