// SPDX-License-Identifier: Apache-2.0
#include "core/models/llama_family.h"

#include <fmt/format.h>

#include "kernels/router.h"

namespace llmctl {
namespace {

constexpr int64_t kMost = int64_t{1} << 24;  // no sane width or vocabulary is larger

double read_rope_theta(const Json& hf, const std::string& who, double fallback) {
  // transformers 5 moved rope_theta into rope_parameters.
  const double theta = config_number_or(hf, "rope_theta", fallback, who);
  auto it = hf.find("rope_parameters");
  if (it == hf.end() || it->is_null()) return theta;
  check(it->is_object(), Code::input, who, ": rope_parameters is not an object");
  const std::string type = config_string_or(*it, "rope_type", "default", who);
  check(type == "default", Code::unsupported, who, ": rope_type ", type, " is not supported (only default)");
  return config_number_or(*it, "rope_theta", theta, who);
}

}  // namespace

DecoderConfig read_family(const Json& hf, const std::string& who, const FamilyDefaults& defaults) {
  DecoderConfig c;
  c.hidden = config_int(hf, "hidden_size", who, 1, kMost);
  c.intermediate = config_int(hf, "intermediate_size", who, 1, kMost);
  c.layers = config_int(hf, "num_hidden_layers", who, 1, 4096);
  c.heads = config_int(hf, "num_attention_heads", who, 1, 4096);
  c.kv_heads = config_int_or(hf, "num_key_value_heads", c.heads, who, 1, c.heads);
  c.head_dim = config_int_or(hf, "head_dim", defaults.head_dim ? defaults.head_dim : c.hidden / c.heads, who, 2, 256);
  c.vocab = config_int(hf, "vocab_size", who, 1, kMost);
  c.positions = config_int_or(hf, "max_position_embeddings", 2048, who, 1, int64_t{1} << 31);
  c.norm_eps = static_cast<float>(config_number_or(hf, "rms_norm_eps", defaults.norm_eps, who));
  c.rope_theta = read_rope_theta(hf, who, defaults.rope_theta);
  c.tied = config_bool_or(hf, "tie_word_embeddings", false, who);
  config_only(hf, "hidden_act", "silu", who);
  config_only(hf, "rope_scaling", nullptr, who);
  c.init_std = static_cast<float>(config_number_or(hf, "initializer_range", 0.02, who));
  check(c.init_std >= 0, Code::input, who, ": initializer_range must not be negative");
  check(c.heads % c.kv_heads == 0, Code::input, who, ": ", c.heads, " heads do not divide by ", c.kv_heads,
        " key-value heads");
  check(c.head_dim >= 2 && c.head_dim <= 256 && c.head_dim % 2 == 0, Code::input, who, ": head_dim ", c.head_dim,
        ", expected an even number in 2..256");
  check(c.rope_theta > 0 && c.norm_eps > 0, Code::input, who, ": rope_theta and rms_norm_eps must be positive");
  return c;
}

Json write_family(const DecoderConfig& c, const Architecture& architecture) {
  return {{"architectures", {architecture.name}},
          {"model_type", architecture.model_type},
          {"hidden_size", c.hidden},
          {"intermediate_size", c.intermediate},
          {"num_hidden_layers", c.layers},
          {"num_attention_heads", c.heads},
          {"num_key_value_heads", c.kv_heads},
          {"head_dim", c.head_dim},
          {"vocab_size", c.vocab},
          {"max_position_embeddings", c.positions},
          {"rms_norm_eps", shortest(c.norm_eps)},
          {"rope_theta", c.rope_theta},
          {"hidden_act", "silu"},
          {"initializer_range", shortest(c.init_std)},
          {"tie_word_embeddings", c.tied}};
}

void read_routing(const Json& hf, const std::string& who, MoeConfig& moe) {
  check(moe.experts >= 1 && moe.experts <= kn::kMaxExperts, Code::unsupported, who, ": ", moe.experts, " experts, expected 1..",
        kn::kMaxExperts);
  check(moe.width >= 1 && moe.width <= kMost, Code::input, who, ": experts of width ", moe.width);
  moe.per_token = config_int_or(hf, "num_experts_per_tok", moe.per_token, who, 1, moe.experts);
  moe.balance_coef = config_number_or(hf, "router_aux_loss_coef", 0.001, who);
  moe.z_coef = config_number_or(hf, "router_z_loss_coef", 0.0, who);
  check(moe.balance_coef >= 0 && moe.z_coef >= 0, Code::input, who,
        ": router_aux_loss_coef and router_z_loss_coef must not be negative");
}

void write_routing(const MoeConfig& moe, Json& out) {
  out["num_experts_per_tok"] = moe.per_token;
  out["router_aux_loss_coef"] = moe.balance_coef;
  if (moe.z_coef > 0) out["router_z_loss_coef"] = moe.z_coef;
}

namespace {

// The parts of one block, under their names in the table and in files.
struct BlockRows {
  Table& t;
  const DecoderConfig& c;
  std::string in, hf;

  Param matrix(const std::string& name, int64_t rows, int64_t cols, ShardDim shard, float std) const {
    return matrix_param(hf + name + ".weight", rows, cols, shard, std);
  }

  void attention() {
    const int64_t d = c.hidden, q = c.attention_width(), kv = c.kv_width();
    t.push_back(vector_weight(in + "norm1", hf + "input_layernorm.weight", d, Init::ones));
    std::vector<Param> qkv = {matrix("self_attn.q_proj", q, d, ShardDim::rows, c.init_std),
                              matrix("self_attn.k_proj", kv, d, ShardDim::rows, c.init_std),
                              matrix("self_attn.v_proj", kv, d, ShardDim::rows, c.init_std)};
    t.push_back(linear_weight(in + "qkv", qkv, kn::leaves_of(d), {c.leaves_attention, 3, {q, kv, kv}}));
    if (c.qkv_bias) t.push_back(bias_weight(t.back()));
    if (c.head_norms) {
      for (const char* name : {"q_norm", "k_norm"}) {
        t.push_back(vector_weight(in + name, hf + "self_attn." + name + ".weight", c.head_dim, Init::ones));
        t.back().dealt = true;
      }
    }
    std::vector<Param> o = {matrix("self_attn.o_proj", d, q, ShardDim::cols, c.residual_init_std())};
    t.push_back(linear_weight(in + "output", o, kn::leaves_of(q, c.leaves_attention), kn::leaves_of(d)));
    if (c.output_bias) t.push_back(bias_weight(t.back()));
  }

  // gate, up and down: names of modules; width F, cut into `leaves`.
  void mlp(const std::string& name, const ExpertNames& names, int64_t f, int leaves) {
    const int64_t d = c.hidden;
    std::vector<Param> up = {matrix(names.block + std::string(names.gate), f, d, ShardDim::rows, c.init_std),
                             matrix(names.block + std::string(names.up), f, d, ShardDim::rows, c.init_std)};
    t.push_back(linear_weight(in + name + "up", up, kn::leaves_of(d), {leaves, 2, {f, f, 0}}));
    if (c.mlp_bias) t.push_back(bias_weight(t.back()));
    std::vector<Param> down = {matrix(names.block + std::string(names.down), d, f, ShardDim::cols, c.residual_init_std())};
    t.push_back(linear_weight(in + name + "down", down, kn::leaves_of(f, leaves), kn::leaves_of(d)));
    if (c.mlp_bias) t.push_back(bias_weight(t.back()));
  }

  void experts(const ExpertNames& names) {
    const MoeConfig& moe = c.moe;
    const std::string block = names.block;
    t.push_back(linear_weight(in + "router", {matrix(block + ".gate", moe.experts, c.hidden, ShardDim::none, c.init_std)},
                              kn::leaves_of(c.hidden), kn::leaves_of(moe.experts)));
    t.back().quantisable = false;
    if (moe.shared_width > 0) {
      mlp("shared.", {(block + ".shared_expert.").c_str(), names.gate, names.up, names.down}, moe.shared_width, c.leaves_mlp);
      t.push_back(linear_weight(in + "shared.gate",
                                {matrix(block + ".shared_expert_gate", 1, c.hidden, ShardDim::none, c.init_std)},
                                kn::leaves_of(c.hidden), kn::leaves_of(1)));
      t.back().quantisable = false;
    }
    for (int64_t e = 0; e < moe.experts; ++e) {
      const std::string expert = fmt::format("{}.experts.{}.", block, e);
      mlp(fmt::format("experts.{}.", e), {expert.c_str(), names.gate, names.up, names.down}, moe.width, moe.leaves);
    }
  }
};

}  // namespace

Table family_table(const DecoderConfig& c, const ExpertNames& names) {
  Table t;
  t.push_back(embedding_weight(c, "model.embed_tokens.weight"));
  for (int64_t l = 0; l < c.layers; ++l) {
    BlockRows block{t, c, fmt::format("blocks.{}.", l), fmt::format("model.layers.{}.", l)};
    block.attention();
    t.push_back(vector_weight(block.in + "norm2", block.hf + "post_attention_layernorm.weight", c.hidden, Init::ones));
    if (c.moe.in_layer(l))
      block.experts(names);
    else
      block.mlp("", {"mlp.", "gate_proj", "up_proj", "down_proj"}, c.intermediate, c.leaves_mlp);
  }
  t.push_back(vector_weight("final_norm", "model.norm.weight", c.hidden, Init::ones));
  if (!c.tied) {
    Weight head = linear_weight("head", {matrix_param("lm_head.weight", c.vocab, c.hidden, ShardDim::rows, c.init_std)},
                                kn::leaves_of(c.hidden), kn::leaves_of(c.padded_vocab(), c.leaves_vocab));
    head.padded_rows = c.padded_vocab();
    t.push_back(head);
  }
  return t;
}

}  // namespace llmctl
