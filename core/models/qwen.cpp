// SPDX-License-Identifier: Apache-2.0
// Qwen3ForCausalLM and Qwen3MoeForCausalLM (Yang et al. 2025; Hugging Face's names): Llama's block with norms of
// query and key heads. Qwen2MoeForCausalLM (Yang et al. 2024): biases of Q, K and V instead, and a shared
// expert. Experts are in the layers that decoder_sparse_step and mlp_only_layers leave.
#include <algorithm>

#include "core/models/llama_family.h"

namespace llmctl {
namespace {

DecoderConfig read_block(const Json& hf, const std::string& who, const FamilyDefaults& defaults) {
  DecoderConfig c = read_family(hf, who, defaults);
  c.head_norms = true;
  c.qkv_bias = c.output_bias = config_bool_or(hf, "attention_bias", false, who);
  config_only(hf, "use_sliding_window", false, who);
  return c;
}

Json write_block(const DecoderConfig& c, const Architecture& architecture) {
  Json out = write_family(c, architecture);
  out["attention_bias"] = c.qkv_bias;
  return out;
}

DecoderConfig read_dense(const Json& hf, const std::string& who) { return read_block(hf, who, {.head_dim = 128}); }

Json write_dense(const DecoderConfig& c) { return write_block(c, qwen3_architecture()); }

Table dense_table(const DecoderConfig& c) { return family_table(c); }

std::vector<int64_t> read_dense_layers(const Json& hf, const std::string& who) {
  std::vector<int64_t> layers;
  auto it = hf.find("mlp_only_layers");
  if (it == hf.end() || it->is_null()) return layers;
  check(it->is_array(), Code::input, who, ": mlp_only_layers is not a list");
  for (const Json& layer : *it) {
    check(layer.is_number_integer(), Code::input, who, ": mlp_only_layers holds ", layer.dump().substr(0, 80));
    layers.push_back(layer.get<int64_t>());
  }
  return layers;
}

// What transformers' config classes have where a field is left out.
struct MoeDefaults {
  int64_t experts, per_token, width;
};

void read_experts(const Json& hf, const std::string& who, const MoeDefaults& defaults, DecoderConfig& c) {
  MoeConfig& moe = c.moe;
  // transformers 5 writes num_local_experts.
  const int64_t local = config_int_or(hf, "num_local_experts", defaults.experts, who, 1, 1 << 20);
  moe.experts = config_int_or(hf, "num_experts", local, who, 1, 1 << 20);
  moe.width = config_int_or(hf, "moe_intermediate_size", defaults.width, who, 1, 1 << 24);
  moe.per_token = std::min(defaults.per_token, moe.experts);
  moe.renormalise = config_bool_or(hf, "norm_topk_prob", false, who);
  moe.step = config_int_or(hf, "decoder_sparse_step", 1, who, 1, 4096);
  moe.dense_layers = read_dense_layers(hf, who);
  read_routing(hf, who, moe);
  check(moe.layers_of(c.layers) > 0, Code::input, who, ": no layer has experts");
}

void write_experts(const DecoderConfig& c, Json& out) {
  out["num_experts"] = c.moe.experts;
  out["moe_intermediate_size"] = c.moe.width;
  out["norm_topk_prob"] = c.moe.renormalise;
  out["decoder_sparse_step"] = c.moe.step;
  out["mlp_only_layers"] = c.moe.dense_layers;
  write_routing(c.moe, out);
}

DecoderConfig read_moe(const Json& hf, const std::string& who) {
  DecoderConfig c = read_block(hf, who, {});
  read_experts(hf, who, {128, 8, 768}, c);
  return c;
}

Json write_moe(const DecoderConfig& c) {
  Json out = write_block(c, qwen3_moe_architecture());
  write_experts(c, out);
  return out;
}

DecoderConfig read_moe2(const Json& hf, const std::string& who) {
  DecoderConfig c = read_family(hf, who);
  c.qkv_bias = config_bool_or(hf, "qkv_bias", true, who);
  config_only(hf, "use_sliding_window", false, who);
  read_experts(hf, who, {60, 4, 1408}, c);
  c.moe.shared_width = config_int_or(hf, "shared_expert_intermediate_size", 5632, who, 1, 1 << 24);
  return c;
}

Json write_moe2(const DecoderConfig& c) {
  Json out = write_family(c, qwen2_moe_architecture());
  out["qkv_bias"] = c.qkv_bias;
  out["shared_expert_intermediate_size"] = c.moe.shared_width;
  write_experts(c, out);
  return out;
}

Table moe_table(const DecoderConfig& c) { return family_table(c, {"mlp", "gate_proj", "up_proj", "down_proj"}); }

}  // namespace

Architecture qwen3_architecture() { return {"Qwen3ForCausalLM", "qwen3", read_dense, write_dense, dense_table}; }
Architecture qwen2_moe_architecture() {
  return {"Qwen2MoeForCausalLM", "qwen2_moe", read_moe2, write_moe2, moe_table};
}
Architecture qwen3_moe_architecture() {
  return {"Qwen3MoeForCausalLM", "qwen3_moe", read_moe, write_moe, moe_table};
}

}  // namespace llmctl
