// SPDX-License-Identifier: Apache-2.0
// Pointwise non-linearities between the two halves of an MLP. Storage f32 or bf16, arithmetic f32,
// one rounding; elementary functions are math.h's.
#pragma once

#include "kernels/op.h"

namespace llmctl::kn {

// y (T,F) = silu(gate) * up with x (T,2F) = [gate | up] (Shazeer 2020). bits: any-cpu+cuda
struct SwigluFwd {
  static constexpr const char* kName = "swiglu_fwd";
  View x, y;
  void check() const;
};
KN_OP(SwigluFwd)
struct SwigluBwd {
  static constexpr const char* kName = "swiglu_bwd";
  View x, dy, dx;  // dx (T,2F) in the dtype of x, may be x
  void check() const;
};
KN_OP(SwigluBwd)

// tanh: 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) ("gelu_new"); erf: x Phi(x) ("gelu").
enum class GeluKind : uint8_t { tanh, erf };
struct GeluFwd {
  static constexpr const char* kName = "gelu_fwd";
  View x, y;
  GeluKind kind = GeluKind::tanh;
  void check() const;
};
KN_OP(GeluFwd)
struct GeluBwd {
  static constexpr const char* kName = "gelu_bwd";
  View x, dy, dx;  // dx in the dtype of dy, may be dy
  GeluKind kind = GeluKind::tanh;
  void check() const;
};
KN_OP(GeluBwd)

}  // namespace llmctl::kn
