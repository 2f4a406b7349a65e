// SPDX-License-Identifier: Apache-2.0
// The pass over gradients and weights at the end of a step: norm, AdamW, and the digest of both
// fused into it. Gradients are f32, or i64 fixed point read as its value, integer * 2^-40 (fixed.h).
//
// Digest. Per tensor the sum mod 2^128 over logical tiles of 64 rows x 256 columns (a vector is
// one row) of hash(key, tile, bits) (digest.h): order-free, so any cut on tile borders adds up. A
// gradient's bits are those of its fixed point, also where it is stored as f32.
#pragma once

#include "kernels/op.h"

namespace llmctl::kn {

constexpr int64_t kTileRows = 64, kTileCols = 256;
constexpr int64_t tiles_of(int64_t rows, int64_t cols) {
  return ((rows + kTileRows - 1) / kTileRows) * ((cols + kTileCols - 1) / kTileCols);
}

// out (tiles) f64: per tile the sum of squares of float(grad) * scale, f64 FMA lanes in a fixed
// order. The caller joins tiles as one tree. bits: any-cpu+cuda
struct GradNorm {
  static constexpr const char* kName = "grad_norm";
  View grad;  // (rows, cols) i64 or f32
  float scale = 1.0f;
  View out;
  void check() const;
};
KN_OP(GradNorm)

// AdamW with decoupled decay (Loshchilov & Hutter 2019), PyTorch's form:
//   g = float(grad) * scale; m = b1 m + (1-b1) g; v = b2 v + (1-b2) g^2
//   w = w - lr*decay*w; w = w - (lr/bias1) * m / (sqrt(v)/sqrt(bias2) + eps)
// each as one FMA or one rounded step in the order pointwise.h states. grad is left as it is.
// digest (4) u64-in-i64: {weights low, high, gradient low, high}, added mod 2^128; none = no digest.
// bits: any-cpu+cuda
struct AdamW {
  static constexpr const char* kName = "adamw";
  View grad, master, m, v;  // (rows, cols); f32 but grad
  float scale = 1.0f;
  float lr = 0, beta1 = 0.9f, beta2 = 0.95f, eps = 1e-8f, decay = 0;
  float bias1 = 1, bias2 = 1;  // 1 - beta^step
  uint64_t digest_key = 0;
  int64_t first_row = 0;  // of the tensor, a multiple of kTileRows: these are rows of a larger one
  View tile_digests;      // work: i64 (tiles, 4), none without digest
  View digest;        // i64 (4) or none
  void check() const;
};
KN_OP(AdamW)

}  // namespace llmctl::kn
