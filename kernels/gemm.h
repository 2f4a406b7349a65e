// SPDX-License-Identifier: Apache-2.0
// Dense products in outer-product form: every output is one chain of FMAs in increasing
// contraction index per leaf (leaves.h). Tiles, threads and vector width never change a bit.
//
// bf16 has two orders (NUMERICS rule 6). pair: by pairs, odd element first (simd.h dot_pair).
// amx32: by blocks of 32, acc = acc + (even + odd), where even and odd are chains from +0 over the
// even and the odd elements of the block; a last block is filled up with +0. Spans of leaves and
// pieces of chains start at whole blocks.
//
// Panels. A weight is repacked once into panels of 16 columns: f32 [N/16][K][16], bf16
// [N/16][ceil(K/32)*16][16][2]; missing columns and the tail are +0. "Columns" are the outputs of
// the product the panels are for: forward panels of W (N,K) have columns n and contraction k,
// backward panels have columns k and contraction n.
#pragma once

#include "kernels/leaves.h"
#include "kernels/op.h"

namespace llmctl::kn {

constexpr int64_t kPanelColumns = 16;
// Elements of the panels of a (contraction, columns) product.
int64_t panel_elements(DType dtype, int64_t contraction, int64_t columns);

// The panels of src for both directions, either or both. src (N,K) row-major f32 or bf16; panels f32
// or bf16 (f32 -> bf16 rounds to nearest even).
// bits: any-cpu+cuda
struct PackPanels {
  static constexpr const char* kName = "pack_panels";
  View src;
  View panels;    // (panel_elements of contraction K, columns N) or none
  View panels_t;  // (panel_elements of contraction N, columns K) or none
  void check() const;
};
KN_OP(PackPanels)

// y (M,N) = round(tree(x (M,K) . w) + bias (N) + residual (M,N)), one rounding to y's dtype.
// x and w share a dtype (f32 or bf16); bias and residual f32 or bf16; y f32 or bf16; y may be
// residual. accumulate: y (f32) += the tree's root, then nothing else may be set.
// leaves.total() == K. bf16 spans start at even columns, in the order amx32 at multiples of 32. Small M
// streams the weights once.
// bits: any-isa (CUDA: backend)
struct Gemm {
  static constexpr const char* kName = "gemm";
  View x, w, y;
  int64_t n = 0;
  Leaves leaves;
  View bias, residual;
  bool accumulate = false;
  Bf16Order order = Bf16Order::pair;
  void check() const;
};
KN_OP(Gemm)

// The weight gradient of y = x W^T: dW[n,k] = sum over tokens t of dy[t,n] x[t,k], one chain in
// token order, in bf16 by pairs (blocks) of tokens, restarting every `seq` tokens (a sequence's last
// pair or block is filled with +0). dy (T,N), x (T,K), same dtype.
// A part's chain may come in pieces: resume loads the chain from `chain` (f32 (N,K)), pause stores
// it there; otherwise the finished sum joins grad (N,K): int64 fixed point (fixed.h) or f32 (+=). only:
// the sum is all there is of the step's gradient, and becomes grad (f32), rounded and checked as if it
// had been fixed point, which loses nothing (NUMERICS rule 14). parts bounds the fixed-point range; a value that is not finite or too large sets *overflow to 1.
// work: gemm_dw_workspace bytes.
// bits: any-isa (CUDA: backend)
struct GemmDw {
  static constexpr const char* kName = "gemm_dw";
  View dy, x;
  int64_t seq = 0;
  View chain;
  bool resume = false, pause = false;
  View grad;
  bool only = false;
  int64_t parts = 1;
  View overflow;  // i32 (1)
  View work;      // u8
  Bf16Order order = Bf16Order::pair;
  void check() const;
};
KN_OP(GemmDw)
int64_t gemm_dw_workspace(DType dtype, int64_t tokens, int64_t seq, int64_t n, int64_t k,
                          Bf16Order order = Bf16Order::pair);

// The bias gradient: column sums of dy (T,N), one f32 chain in token order, into grad (N). resume and
// pause as above, in chain (f32 (N)).
// bits: any-isa
struct BiasGrad {
  static constexpr const char* kName = "bias_grad";
  View dy, grad, overflow;
  int64_t parts = 1;
  View chain = {};
  bool resume = false, pause = false;
  void check() const;
};
KN_OP(BiasGrad)

}  // namespace llmctl::kn
