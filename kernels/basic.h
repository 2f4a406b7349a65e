// SPDX-License-Identifier: Apache-2.0
// Plain data movement. bits: any-cpu+cuda
#pragma once

#include "kernels/op.h"

namespace llmctl::kn {

// y = x in y's dtype; f32 <-> bf16 (nearest even), f16 -> f32, same dtype copies.
struct Convert {
  static constexpr const char* kName = "convert";
  View x, y;
  void check() const;
};
KN_OP(Convert)

// All bytes of x become 0.
struct Clear {
  static constexpr const char* kName = "clear";
  View x;
  void check() const;
};
KN_OP(Clear)

// y += x: i64, mod 2^64.
struct AddWhole {
  static constexpr const char* kName = "add_whole";
  View x, y;
  void check() const;
};
KN_OP(AddWhole)

// y (rows, D) = x (T,D) at the listed rows (i32).
struct GatherRows {
  static constexpr const char* kName = "gather_rows";
  View x, index, y;
  void check() const;
};
KN_OP(GatherRows)

// out (2) i64 = {low, high}: the digest of x by digest.h, its values taken by their bits in their
// dtype (f32, i32, bf16, f16 or i64). AdamW's fused digest of a weight is this one of its master.
struct TensorDigest {
  static constexpr const char* kName = "tensor_digest";
  View x;  // (rows, cols)
  uint64_t key = 0;
  View tile_digests;  // work: i64 (tiles_of(rows, cols), 2)
  View out;
  void check() const;
};
KN_OP(TensorDigest)

}  // namespace llmctl::kn
