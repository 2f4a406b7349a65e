// SPDX-License-Identifier: Apache-2.0
// What Muon needs beside GEMMs: momentum, the final update, and a scaled copy. The iteration
// that joins them is core/train/muon.h. Gradients and digests are optimizer.h's.
#pragma once

#include "kernels/op.h"

namespace llmctl::kn {

// g = float(grad) * scale; m = mu m + (1 - mu) g; update = nesterov ? mu m + (1 - mu) g : m
// (PyTorch's lerp form), each line one FMA onto a rounded product. grad is left as it is.
// digest (2) i64 += the gradient's {low, high} by optimizer.h; none = no digest.
// bits: any-cpu+cuda
struct MuonMomentum {
  static constexpr const char* kName = "muon_momentum";
  View grad;       // (rows, cols) i64 or f32
  View m, update;  // (rows, cols) f32
  float scale = 1.0f, momentum = 0.95f;
  bool nesterov = true;
  uint64_t digest_key = 0;
  View tile_digests;  // work: i64 (tiles, 2), none without digest
  View digest;
  void check() const;
};
KN_OP(MuonMomentum)

// w = w - lr*decay*w; w = w - step*update, two FMAs. digest (2) i64 += the new weight's {low, high}.
// bits: any-cpu+cuda
struct MuonUpdate {
  static constexpr const char* kName = "muon_update";
  View update, master;  // (rows, cols) f32
  float lr = 0, decay = 0, step = 0;
  uint64_t digest_key = 0;
  View tile_digests;  // work: i64 (tiles, 2), none without digest
  View digest;
  void check() const;
};
KN_OP(MuonUpdate)

// y = x * scale, f32; transpose: x (rows, cols) to y (cols, rows). y may be x when nothing is transposed.
// bits: any-cpu+cuda
struct ScaledCopy {
  static constexpr const char* kName = "scaled_copy";
  View x, y;
  float scale = 1.0f;
  bool transpose = false;
  void check() const;
};
KN_OP(ScaledCopy)

}  // namespace llmctl::kn
