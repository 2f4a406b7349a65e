// SPDX-License-Identifier: Apache-2.0
// The training config: one object, written back into run.json as resolved.
#pragma once

#include <string>
#include <vector>

#include "core/base/config.h"

namespace llmctl {

struct DataPartConfig {
  std::string path;
  double weight = 0, epochs = 0;
  template <class V>
  void fields(V& v) {
    v("path", path, "folder of packed token shards");
    v("weight", weight, "its share of the tokens, beside the others' weights").range(0, 1e9);
    v("epochs", epochs, "or how often it is read while the others are read so often as theirs say").range(0, 1e6);
  }
};

struct DataConfig {
  std::string train, validation, tokenizer;
  std::vector<DataPartConfig> mixture;
  template <class V>
  void fields(V& v) {
    v("train", train, "folder of packed token shards");
    v("mixture", mixture, "instead of train: list of {path, weight} or {path, epochs}");
    v("validation", validation, "folder of packed shards held out");
    v("tokenizer", tokenizer, "tokenizer copied beside the model");
  }
};

struct UnitConfig {
  int64_t sequences = 4, seq_len = 256, chunks = 1;
  template <class V>
  void fields(V& v) {
    v("sequences", sequences, "rows of one unit, the logical micro-batch").range(1, 1 << 20);
    v("seq_len", seq_len, "tokens of a row").range(1, 1 << 24);
    v("chunks", chunks, "equal slices of every row, each a part of the gradient sums: parallel.cp shares them out")
        .range(1, 64);
  }
};

struct BatchConfig {
  int64_t units = 8;
  template <class V>
  void fields(V& v) {
    v("units", units, "units of one step").range(1, 1 << 20);
  }
};

// AdamW for all, or Muon for the matrices of the blocks and AdamW for embeddings, head, norms and biases.
// The names are torch.optim.Muon's. The default adjust_lr_fn is Moonlight's (Liu et al. 2025) and not
// torch's: its update has AdamW's usual size, so that one learning rate and one decay serve both.
// With "original" (Jordan) the matrices want a rate of their own, near 0.02.
struct OptimizerConfig {
  std::string name = "adamw", adjust_lr_fn = "match_rms_adamw";
  double learning_rate = 3e-4, beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0.1, clip = 1.0;
  double matrix_learning_rate = 0, momentum = 0.95;
  bool nesterov = true;
  int64_t ns_steps = 5;
  template <class V>
  void fields(V& v) {
    v("name", name, "muon: AdamW but for the matrices of the blocks").choices({"adamw", "muon"});
    v("learning_rate", learning_rate, "peak learning rate").range(0, 10);
    v("beta1", beta1, "decay of the first moment").range(0, 0.9999999);
    v("beta2", beta2, "decay of the second moment").range(0, 0.9999999);
    v("eps", eps, "added to the root of the second moment").range(0, 1);
    v("weight_decay", weight_decay, "decoupled decay of matrices").range(0, 100);
    v("clip", clip, "largest gradient norm, 0 for none").range(0, 1e9);
    v("matrix_learning_rate", matrix_learning_rate, "muon: peak for its matrices, 0 for learning_rate").range(0, 10);
    v("momentum", momentum, "muon: decay of the momentum").range(0, 0.9999999);
    v("nesterov", nesterov, "muon: look one step of momentum ahead");
    v("ns_steps", ns_steps, "muon: Newton-Schulz steps").range(1, 99);
    v("adjust_lr_fn", adjust_lr_fn, "muon: rate by shape, 0.2 sqrt(max(rows, cols)) or sqrt(max(1, rows/cols))")
        .choices({"match_rms_adamw", "original"});
  }
};

struct ScheduleConfig {
  std::string kind = "cosine";
  int64_t steps = 1000, warmup_steps = 50, decay_steps = 0;
  double min_ratio = 0.1;
  template <class V>
  void fields(V& v) {
    v("kind", kind, "after the warm-up; wsd holds, then falls over decay_steps")
        .choices({"cosine", "linear", "constant", "wsd"});
    v("steps", steps, "steps of the whole run").range(1, 1e12);
    v("warmup_steps", warmup_steps, "linear steps to the peak").range(0, 1e12);
    v("decay_steps", decay_steps, "wsd: steps of the final fall").range(0, 1e12);
    v("min_ratio", min_ratio, "final learning rate over the peak").range(0, 1);
  }
};

struct NumericsConfig {
  std::string compute = "bf16", bf16_order = "pair", accumulate = "fixed";
  bool digest = true;
  template <class V>
  void fields(V& v) {
    v("compute", compute, "dtype of operands and activations").choices({"bf16", "f32"});
    v("bf16_order", bf16_order, "how bf16 products are summed: pair is fast with vdpbf16ps, amx32 with AMX")
        .choices({"pair", "amx32"});
    v("accumulate", accumulate, "gradient sums: 64-bit fixed point, or plain f32 (order-bound)")
        .choices({"fixed", "f32"});
    v("digest", digest, "digest of gradients and weights each step");
  }
};

struct ParallelConfig {
  int64_t units_per_pass = 1, sequences_per_pass = 0, zero = 1;
  int64_t tp = 1, pp = 1, cp = 1, ep = 1, virtual_stages = 1;
  double expert_capacity = 0;
  std::string recompute = "norms", schedule = "1f1b";
  template <class V>
  void fields(V& v) {
    v("units_per_pass", units_per_pass, "units whose activations are alive at once").range(1, 1 << 20);
    v("sequences_per_pass", sequences_per_pass, "sequences alive at once where a step is one unit, 0 for about 1,024 tokens")
        .range(0, 1 << 20);
    v("zero", zero, "what data-parallel ranks share out: 0 nothing, 1 optimiser states, 2 and gradients, 3 and weights")
        .range(0, 3);
    v("recompute", recompute, "computed again in the backward pass: outputs of norms; pointwise: and of activations; whole blocks (zero_bubble: none)")
        .choices({"none", "norms", "pointwise", "block"});
    v("tp", tp, "ranks that share out each layer's matrices (tensor parallel)").range(1, 1 << 10);
    v("pp", pp, "ranks that share out the layers (pipeline parallel)").range(1, 1 << 10);
    v("cp", cp, "ranks that share out each sequence (context parallel)").range(1, 1 << 10);
    v("ep", ep, "ranks that share out the experts (expert parallel)").range(1, 1 << 10);
    v("expert_capacity", expert_capacity, "rows that a rank has room for with ep, over its even share; 0: all that can come")
        .range(0, 1 << 20);
    v("schedule", schedule, "order of the pipeline's passes").choices({"1f1b", "gpipe", "interleaved", "zero_bubble"});
    v("virtual_stages", virtual_stages, "interleaved: runs of layers at each rank").range(1, 1 << 10);
  }
};

// Of models with a mixture of experts.
struct ExpertsConfig {
  int64_t units_per_part = 1;
  template <class V>
  void fields(V& v) {
    v("units_per_part", units_per_part, "units that make one part of an expert's gradients: more rows for each product")
        .range(1, 1 << 20);
  }
};

struct CheckpointConfig {
  int64_t every = 0, keep = 2;
  bool asynchronous = true;
  template <class V>
  void fields(V& v) {
    v("every", every, "steps between checkpoints, 0 for the last only").range(0, 1e12);
    v("keep", keep, "checkpoints kept, 0 for all").range(0, 1 << 20);
    v("asynchronous", asynchronous, "written while training goes on (on a CPU)");
  }
};

// Of steps whose loss or gradient is not finite, or whose loss jumps (core/train/guard.h).
struct GuardConfig {
  std::string action = "stop";
  double spike = 0;
  int64_t window = 64, max_skips = 8;
  template <class V>
  void fields(V& v) {
    v("action", action, "skip: the step's update; rewind: go back to the last checkpoint and skip the step on the way")
        .choices({"stop", "skip", "rewind"});
    v("spike", spike, "a loss is suspect above so many times the median of those before, 0: only what is not finite")
        .range(0, 1e9);
    v("window", window, "losses before a step that make the median").range(1, 4096);
    v("max_skips", max_skips, "steps skipped before the run gives up").range(0, 1000);
  }
};

struct ValidationConfig {
  int64_t every = 0, units = 0;
  template <class V>
  void fields(V& v) {
    v("every", every, "steps between validations, 0 for the end only").range(0, 1e12);
    v("units", units, "units of a validation, 0 for all of the held-out tokens").range(0, 1e12);
  }
};

struct TrainConfig {
  Json model = Json::object();
  std::string init;
  DataConfig data;
  UnitConfig unit;
  BatchConfig batch;
  OptimizerConfig optimizer;
  ScheduleConfig schedule;
  NumericsConfig numerics;
  ParallelConfig parallel;
  ExpertsConfig moe;
  CheckpointConfig checkpoint;
  ValidationConfig validation;
  GuardConfig guard;
  std::string objective = "pretrain";
  int64_t seed = 1;
  template <class V>
  void fields(V& v) {
    v("model", model, "fields of Hugging Face's config.json");
    v("init", init, "model folder whose weights the run starts from");
    v.object("data", data);
    v.object("unit", unit);
    v.object("batch", batch);
    v.object("optimizer", optimizer);
    v.object("schedule", schedule);
    v.object("numerics", numerics);
    v.object("parallel", parallel);
    v.object("moe", moe);
    v.object("checkpoint", checkpoint);
    v.object("validation", validation);
    v.object("guard", guard);
    v("objective", objective, "what is trained").choices({"pretrain"});
    v("seed", seed, "of the initial weights and the data order");
  }
};

// Error{input} when the phases of the schedule do not fit its steps.
void check_schedule(const ScheduleConfig& schedule);
// The learning rate of step 0.. in double, rounded once by the caller.
double learning_rate_at(const OptimizerConfig& optimizer, const ScheduleConfig& schedule, int64_t step);

}  // namespace llmctl
