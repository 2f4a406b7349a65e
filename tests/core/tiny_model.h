// SPDX-License-Identifier: Apache-2.0
// Small models and synthetic data for tests of core.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "core/train/trainer.h"
#include "kernels/random.h"

namespace llmctl::test {

inline Json tiny_llama(int leaves = 1) {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"hidden_size", 64},
          {"intermediate_size", 160},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"head_dim", 16},
          {"vocab_size", 131},
          {"max_position_embeddings", 640},
          {"rms_norm_eps", 1e-5},
          {"tie_word_embeddings", true},
          {"llmctl", {{"leaves", {{"attention", leaves}, {"mlp", leaves}, {"vocab", leaves}}}}}};
}

inline Json tiny_gpt2(int leaves = 1) {
  return {{"architectures", {"GPT2LMHeadModel"}},
          {"n_embd", 48},
          {"n_layer", 2},
          {"n_head", 3},
          {"vocab_size", 131},
          {"n_positions", 640},
          {"llmctl", {{"leaves", {{"attention", leaves}, {"mlp", leaves}, {"vocab", leaves}}}}}};
}

inline Json tiny_mixtral(int leaves = 1) {
  Json hf = tiny_llama(leaves);
  hf["architectures"] = {"MixtralForCausalLM"};
  hf["intermediate_size"] = 96;
  hf["num_local_experts"] = 6;
  hf["num_experts_per_tok"] = 2;
  hf["router_aux_loss_coef"] = 0.02;
  hf["router_z_loss_coef"] = 0.001;
  hf["tie_word_embeddings"] = false;
  hf["llmctl"]["leaves"]["experts"] = leaves;
  return hf;
}

inline Json tiny_qwen3(int leaves = 1) {
  Json hf = tiny_llama(leaves);
  hf["architectures"] = {"Qwen3ForCausalLM"};
  return hf;
}

// The second of three layers has no experts.
inline Json tiny_qwen3_moe(int leaves = 1) {
  Json hf = tiny_mixtral(leaves);
  hf["architectures"] = {"Qwen3MoeForCausalLM"};
  hf["num_hidden_layers"] = 3;
  hf["intermediate_size"] = 160;
  hf["moe_intermediate_size"] = 96;
  hf.erase("num_local_experts");
  hf["num_experts"] = 9;
  hf["num_experts_per_tok"] = 3;
  hf["mlp_only_layers"] = {1};
  return hf;
}

inline Json tiny_qwen2_moe(int leaves = 1) {
  Json hf = tiny_qwen3_moe(leaves);
  hf["architectures"] = {"Qwen2MoeForCausalLM"};
  hf["shared_expert_intermediate_size"] = 64;
  return hf;
}

// Tokens from a counter, three documents a row.
struct CountedTokens final : BatchSource {
  CountedTokens(int64_t rows, int64_t seq, int32_t vocab) : rows_(rows), seq_(seq), vocab_(vocab) {}
  void read(int64_t step, int64_t unit, Batch& out) const override {
    out.rows = rows_;
    out.seq = seq_;
    out.tokens.clear();
    out.targets.clear();
    out.doc_starts.clear();
    const kn::RandomKey key{7, static_cast<uint32_t>(step), static_cast<uint32_t>(unit)};
    for (int64_t r = 0; r < rows_; ++r) {
      const auto second = static_cast<int32_t>(1 + (r * 7) % (seq_ / 2)), third = static_cast<int32_t>(seq_ - 3);
      out.doc_starts.push_back({0, second, third});
      for (int64_t i = 0; i < seq_; ++i) {
        const auto at = static_cast<uint64_t>(r * (seq_ + 1) + i);
        auto token = [&](uint64_t n) {  // mostly predictable, so that there is something to learn
          return static_cast<int32_t>((n % 5 == 0 ? kn::random_words(key, n).word[0] : n * 3) % static_cast<uint32_t>(vocab_));
        };
        out.tokens.push_back(token(at));
        out.targets.push_back(i + 1 == second || i + 1 == third ? -1 : token(at + 1));
      }
    }
  }
  std::string digest() const override { return "counted"; }
  int64_t tokens() const override { return 1 << 20; }

 private:
  int64_t rows_, seq_;
  int32_t vocab_;
};

inline TrainConfig tiny_config(const std::string& compute = "bf16") {
  TrainConfig c;
  c.unit = {2, 37};
  c.batch.units = 8;
  c.optimizer.learning_rate = 3e-3;
  c.schedule.steps = 12;
  c.schedule.warmup_steps = 2;
  c.numerics.compute = compute;
  return c;
}

inline ModelSpec tiny_spec(const Json& hf, const TrainConfig& c) {
  return make_model_spec(hf, c.numerics.compute == "bf16" ? DType::bf16 : DType::f32, "[test]");
}

// Whether tests run on a device, as LLMCTL_TEST_DEVICE=cuda asks. It offers no order amx32, and one
// instruction set is enough for what the host does. With LLMCTL_TEST_TENSOR_CORES=0 it has the CPU's bits;
// LLMCTL_TEST_STEPS says how many steps runs are compared for, where ten take too long.
inline const char* setting(const char* name, const char* other) {
  const char* value = std::getenv(name);
  return value ? value : other;
}
inline bool on_device() { return setting("LLMCTL_TEST_DEVICE", "") == std::string("cuda"); }
inline bool tensor_cores() { return on_device() && setting("LLMCTL_TEST_TENSOR_CORES", "1") != std::string("0"); }
inline size_t steps() { return static_cast<size_t>(std::atoi(setting("LLMCTL_TEST_STEPS", "10"))); }

// Threads and instruction set of one test run, or the device that does its work (no device there: `no
// device`, exit status 6).
struct Machine {
  explicit Machine(int threads = 2, kn::Isa isa = kn::supported_isas().front()) : pool(threads) {
    exec.isa = isa;
    exec.pool = &pool;
    if (!on_device()) return;
    if (kn::device_count() == 0) {
      std::fprintf(stderr, "no device: the build has no CUDA code, or the driver or the GPU is missing\n");
      std::_Exit(6);
    }
    exec.device = {kn::DeviceKind::cuda, 0};
    exec.tensor_cores = tensor_cores();
    kn::use_device(exec);
    exec.stream = kn::new_stream(exec.device);
  }
  ~Machine() { kn::end_stream(exec.device, exec.stream); }
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;
  kn::ThreadPool pool;
  kn::Exec exec;
};

}  // namespace llmctl::test
