// SPDX-License-Identifier: Apache-2.0
// The weights of a model in memory, in the layouts that kernels read.
//
// Training keeps fp32 masters, moments (AdamW's two, or Muon's one) and 64-bit gradients, and from
// each master the compute copy: vectors in the compute dtype and GEMM panels for both directions,
// unless these are packed when they are wanted (Panels). Tables are looked up in their masters.
// Inference keeps the compute copy only, or quantised panels.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/tensor/arena.h"
#include "core/tensor/table.h"
#include "kernels/gemm.h"
#include "kernels/quant_gemm.h"

namespace llmctl {

struct WeightState {
  Weight spec;
  View rows;               // (padded_rows, cols) of a table, (n) of a vector: compute dtype, or the master
  View panels, panels_t;   // forward and backward GEMM panels: multiplies(), or none (core/nn/linear.h)
  int bits = 0;            // 8 or 4: quant_panels stand in for panels
  int64_t group = 0;
  View quant_panels;       // u8
  View master, m, v, grad;  // training: (padded_rows, cols), vectors (n); f32, f32, f32, i64 or f32
  bool muon = false;        // updated by Muon: m is its momentum and there is no v
  bool one_part = false;    // grad is f32, stored and never added to
  // f32, in steps of one part: where a gradient's chain pauses. Of matrices it is grad, or of a tied
  // table, whose head's sum others join, the first half of grad's memory (core/nn/head.h).
  View chain;
  View overflow;            // i32 (1): set when a gradient is not finite or too large
  // One parameter's slice of master, m, v or grad: (rows, cols), or (1, n) for a vector.
  View param_rows(const View& whole, size_t param) const;
};

enum class Purpose : uint8_t { inference, training };
// fixed: 64-bit fixed point. one_part: the same, where a step makes one part of each gradient: those of
// matrices that are used once are then f32 (NUMERICS rule 14). f32: plain sums, bound to their order.
enum class GradKind : uint8_t { fixed, one_part, f32 };
enum class Update : uint8_t { adamw, muon };  // of hidden matrices; all else is AdamW's
// Of training: GEMM panels for both directions stay in memory (refreshed each step), or each product
// packs its own from the master: as fast where a step is one pass, and two compute copies less.
enum class Panels : uint8_t { kept, packed_on_use };

class Parameters {
 public:
  // Plans the memory; nothing is touched before allocate().
  Parameters(Table table, DType compute, Purpose purpose, kn::Device device = {},
             GradKind grad = GradKind::fixed, Update update = Update::adamw, Panels panels = Panels::kept);
  void allocate() { arena_.allocate(), place(); }
  // Over the memory of a mapped file, laid out as planned (Purpose::inference).
  void allocate_over(std::byte* memory, int64_t bytes) { arena_.allocate_over(memory, bytes), place(); }

  // Declares before allocate() that weight i is stored with so many bits in groups.
  void quantise(int weight, int bits, int64_t group);

  WeightState& at(const std::string& name);
  WeightState* find(const std::string& name);
  std::vector<WeightState>& all() { return weights_; }
  const std::vector<WeightState>& all() const { return weights_; }
  const Table table() const;
  DType compute() const { return compute_; }
  Purpose purpose() const { return purpose_; }
  int64_t bytes() const { return arena_.peak(); }
  // The overflow flags of all(), i32 (Purpose::training).
  const View& overflows() const { return overflows_; }
  // Of the largest panels of a block that are packed on use: 0 when none are.
  int64_t packed_bytes() const;

  // From master (training) to the compute copy: after initialisation, load, and every step.
  void refresh(const kn::Exec& exec);
  // One weight's compute copy from src (rows, cols) f32 or bf16.
  void set_compute(const kn::Exec& exec, WeightState& w, const View& src);

 private:
  void place();
  std::vector<WeightState> weights_;
  View overflows_;
  DType compute_;
  Purpose purpose_;
  GradKind grad_;
  Panels panels_;
  Arena arena_;
};

}  // namespace llmctl
