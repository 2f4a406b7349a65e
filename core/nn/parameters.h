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

#include "core/nn/bundle_store.h"
#include "core/nn/slice_exchange.h"
#include "core/tensor/arena.h"
#include "core/tensor/table.h"
#include "kernels/gemm.h"
#include "kernels/quant_gemm.h"

namespace llmctl {

struct WeightState {
  Weight spec;
  Slice slice;             // what of it is computed with here: rows, panels and grad are of this
  View rows;               // (padded_rows, cols) of a table, (n) of a vector: compute dtype, or the master
  View panels, panels_t;   // forward and backward GEMM panels: multiplies(), or none (core/nn/linear.h)
  int bits = 0;            // 8 or 4: quant_panels stand in for panels
  int64_t group = 0;
  View quant_panels;       // u8
  // Of weights or gradients that are spread over ranks (core/nn/bundle_store.h): its bundle, whether its gradient
  // passes to its owners with that or stays until the step's end, and whether it comes with it itself.
  int bundle = 0;
  bool in_bundle = false, comes = false;
  // Training. grad is what backward adds to: (padded_rows, cols), vectors (n); i64 or f32. Of the rest a
  // rank keeps the rows it owns (all of them unless states are sharded): f32, and the sums of gradients.
  View grad, master, m, v, sum;
  // What panels are packed from where they are packed on use: the master, or where weights are sharded
  // the slice that its bundle brings together, for which this rank keeps the rows `mine` (compute dtype).
  View whole, mine;
  RowRange own;                  // of padded rows
  std::vector<int64_t> borders;  // ranks + 1: who owns what (core/nn/sharding.h)
  bool muon = false;        // updated by Muon: m is its momentum and there is no v
  bool one_part = false;    // grad is f32, stored and never added to
  // f32, in steps of one part: where a gradient's chain pauses. Of matrices it is grad, or of a tied
  // table, whose head's sum others join, the first half of grad's memory (core/nn/head.h).
  View chain;
  View overflow;            // i32 (1): set when a gradient is not finite or too large
  // The shape of a parameter, without memory: (rows, cols), or (1, n) for a vector.
  View shape_of(size_t param) const;
  // One parameter's slice of a whole of that shape.
  View param_rows(const View& all_rows, size_t param) const;
  // The rows of a parameter that are kept here (maybe none), and these of master, m, v or sum.
  RowRange kept_rows(size_t param) const { return rows_within(param, own); }
  View kept(const View& own_rows, size_t param) const { return kept(own_rows, param, kept_rows(param)); }
  // Any rows of a parameter among those kept; the rows of a parameter that lie within rows of the whole.
  View kept(const View& own_rows, size_t param, const RowRange& rows) const;
  RowRange rows_within(size_t param, const RowRange& range) const;
  // Rows of a parameter that lie before a row of the whole.
  int64_t rows_before(int64_t row, size_t param) const;

 private:
  View rows_in(const View& from, const RowRange& rows) const;
  int64_t first_row(size_t param) const;
};

enum class Purpose : uint8_t { inference, training };
// fixed: 64-bit fixed point. one_part: the same, where a step makes one part of each gradient: those of
// matrices that are used once are then f32 (NUMERICS rule 14). f32: plain sums, bound to their order.
enum class GradKind : uint8_t { fixed, one_part, f32 };
enum class Update : uint8_t { adamw, muon };  // of hidden matrices; all else is AdamW's
// Of training: GEMM panels for both directions stay in memory (refreshed each step), or each product
// packs its own from the master: as fast where a step is one pass, and two compute copies less.
enum class Panels : uint8_t { kept, packed_on_use };


// How weights that are trained lie in memory.
struct TrainingMemory {
  GradKind grad = GradKind::fixed;
  Update update = Update::adamw;
  Panels panels = Panels::kept;
  Sharding sharding = {};
};

class Parameters {
 public:
  // Plans the memory; nothing is touched before allocate().
  Parameters(const Parameters&) = delete;  // the store's calls refer to it
  Parameters(Table table, DType compute, Purpose purpose, kn::Device device = {}, const TrainingMemory& training = {});
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

  const Sharding& sharding() const { return training_.sharding; }
  const Stages& stages() const { return stages_; }
  // Where gradients, or weights too, pass from and to their owners in a pass: else null.
  BundleStore* store() { return store_.get(); }
  void clear_gradients(const kn::Exec& exec);

  // From master (training) to the compute copy: after initialisation, load, and every step. Collective
  // where masters are sharded.
  void refresh(const kn::Exec& exec);
  // Sums the gradients of all ranks where they are owned. Collective; after the last backward of a step.
  void reduce_gradients(const kn::Exec& exec, int64_t step);
  // One weight's compute copy from src (rows, cols) f32 or bf16.
  void set_compute(const kn::Exec& exec, WeightState& w, const View& src);

 private:
  void place();
  void place_gradients();
  void place_slice_gradients();
  void place_bucket();
  void place_bundles();
  void place_whole(std::vector<Bundle>& bundles);
  void exchange_in_bundles(std::vector<Bundle>& bundles);
  SliceExchange::Rounds rounds_of(const std::function<bool(const WeightState&)>& which) const;
  SliceExchange::Peers world() const { return {training_.sharding.comm, 0, training_.sharding.ranks}; }
  void fetch_whole(Comm& comm, const WeightState& w) const;
  void gather(const kn::Exec& exec, WeightState& w);
  std::vector<WeightState> weights_;
  View overflows_;
  DType compute_;
  Purpose purpose_;
  TrainingMemory training_;
  Stages stages_{0, 1, 1};
  Arena arena_;
  View gathered_;                   // u8: a whole matrix in the compute dtype, where masters are sharded
  std::span<int64_t> gradients_;    // all of grad, one after another, where ranks sum them
  std::vector<int64_t> owned_;      // its borders by rank
  View bucket_;                     // i64: the gradients of a bundle, where they pass to their owners
  std::vector<int64_t> bundle_sizes_;
  // Where ranks compute with slices: what passes at a step's end, and with each bundle; u8 memory for it, and for
  // what comes beside the computation.
  std::unique_ptr<SliceExchange> exchange_;
  SliceExchange::Rounds last_gradients_, last_weights_;
  std::vector<SliceExchange::Rounds> bundle_rounds_;
  View passing_, coming_;
  std::unique_ptr<kn::ThreadPool> beside_;
  std::unique_ptr<BundleStore> store_;
};

}  // namespace llmctl
