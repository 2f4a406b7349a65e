// SPDX-License-Identifier: Apache-2.0
// Products with 8- and 4-bit weights, group-wise symmetric, activations quantised to int8
// (NUMERICS rule 22). Integer dot products inside a group are exact; groups join as one f32 chain
// in increasing group index: acc = fma-free acc + (float(dot) * sx) * sw.
#pragma once

#include "kernels/op.h"

namespace llmctl::kn {

// Rows of x (M,K) f32 or bf16 to q (M,K) i8 and scale (M, ceil(K/group)) f32: amax/127 per group,
// q in [-127,127], nearest even; an all-zero group has scale 0. bits: any-cpu+cuda
struct QuantizeRows {
  static constexpr const char* kName = "quantize_rows";
  View x, q, scale;
  int64_t group = 128;
  void check() const;
};
KN_OP(QuantizeRows)

// Packed weights for QuantGemm from q (N,K) i8 in [-127,127] or [-8,7]: our panel layout, see the
// source. bytes: quant_panel_bytes. bits: any-cpu+cuda
struct PackQuantPanels {
  static constexpr const char* kName = "pack_quant_panels";
  View q;      // (N,K) i8
  View scale;  // (N, ceil(K/group)) f32
  View dst;    // u8 (quant_panel_bytes)
  int bits = 8;
  int64_t group = 128;
  void check() const;
};
KN_OP(PackQuantPanels)
int64_t quant_panel_bytes(int bits, int64_t n, int64_t k, int64_t group);

// y (M,N) = round(sum + bias + residual) as Gemm. group is a multiple of 32. bits: any-cpu+cuda
struct QuantGemm {
  static constexpr const char* kName = "quant_gemm";
  View q, scale;  // activations (M,K) i8, (M, ceil(K/group)) f32
  View w;         // panels u8
  View y;         // (M,N) f32 or bf16
  int bits = 8;
  int64_t n = 0, group = 128;
  View bias, residual;
  void check() const;
};
KN_OP(QuantGemm)

}  // namespace llmctl::kn
