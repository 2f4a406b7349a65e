// SPDX-License-Identifier: Apache-2.0
// LlamaForCausalLM (Touvron et al. 2023; Hugging Face's names): RMSNorm, rotary positions,
// grouped-query attention, SwiGLU.
#include <fmt/format.h>

#include "core/models/architecture.h"

namespace llmctl {
namespace {

constexpr int64_t kMost = int64_t{1} << 24;  // no sane width or vocabulary is larger

double read_rope_theta(const Json& hf, const std::string& who) {
  // transformers 5 moved rope_theta into rope_parameters.
  auto it = hf.find("rope_parameters");
  if (it == hf.end() || it->is_null()) return config_number_or(hf, "rope_theta", 10000.0, who);
  check(it->is_object(), Code::input, who, ": rope_parameters is not an object");
  const std::string type = config_string_or(*it, "rope_type", "default", who);
  check(type == "default", Code::unsupported, who, ": rope_type ", type, " is not supported (only default)");
  return config_number_or(*it, "rope_theta", config_number_or(hf, "rope_theta", 10000.0, who), who);
}

DecoderConfig read(const Json& hf, const std::string& who) {
  DecoderConfig c;
  c.hidden = config_int(hf, "hidden_size", who, 1, kMost);
  c.intermediate = config_int(hf, "intermediate_size", who, 1, kMost);
  c.layers = config_int(hf, "num_hidden_layers", who, 1, 4096);
  c.heads = config_int(hf, "num_attention_heads", who, 1, 4096);
  c.kv_heads = config_int_or(hf, "num_key_value_heads", c.heads, who, 1, c.heads);
  c.head_dim = config_int_or(hf, "head_dim", c.hidden / c.heads, who, 2, 256);
  c.vocab = config_int(hf, "vocab_size", who, 1, kMost);
  c.positions = config_int_or(hf, "max_position_embeddings", 2048, who, 1, int64_t{1} << 31);
  c.norm_eps = static_cast<float>(config_number_or(hf, "rms_norm_eps", 1e-6, who));
  c.rope_theta = read_rope_theta(hf, who);
  c.tied = config_bool_or(hf, "tie_word_embeddings", false, who);
  c.qkv_bias = c.output_bias = config_bool_or(hf, "attention_bias", false, who);
  c.mlp_bias = config_bool_or(hf, "mlp_bias", false, who);
  config_only(hf, "hidden_act", "silu", who);
  config_only(hf, "rope_scaling", nullptr, who);
  config_only(hf, "pretraining_tp", 1, who);
  c.init_std = static_cast<float>(config_number_or(hf, "initializer_range", 0.02, who));
  check(c.init_std >= 0, Code::input, who, ": initializer_range must not be negative");
  check(c.heads % c.kv_heads == 0, Code::input, who, ": ", c.heads, " heads do not divide by ", c.kv_heads,
        " key-value heads");
  check(c.head_dim >= 2 && c.head_dim <= 256 && c.head_dim % 2 == 0, Code::input, who, ": head_dim ", c.head_dim,
        ", expected an even number in 2..256");
  check(c.rope_theta > 0 && c.norm_eps > 0, Code::input, who, ": rope_theta and rms_norm_eps must be positive");
  return c;
}

Json write(const DecoderConfig& c) {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
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
          {"tie_word_embeddings", c.tied},
          {"attention_bias", c.qkv_bias},
          {"mlp_bias", c.mlp_bias}};
}

Table table(const DecoderConfig& c) {
  Table t;
  t.push_back(embedding_weight(c, "model.embed_tokens.weight"));
  const int64_t d = c.hidden, q = c.attention_width(), kv = c.kv_width(), f = c.intermediate;
  const float std = c.init_std, joins = c.residual_init_std();
  for (int64_t l = 0; l < c.layers; ++l) {
    const std::string in = fmt::format("blocks.{}.", l), hf = fmt::format("model.layers.{}.", l);
    t.push_back(vector_weight(in + "norm1", hf + "input_layernorm.weight", d, Init::ones));
    std::vector<Param> qkv = {matrix_param(hf + "self_attn.q_proj.weight", q, d, ShardDim::rows, std),
                              matrix_param(hf + "self_attn.k_proj.weight", kv, d, ShardDim::rows, std),
                              matrix_param(hf + "self_attn.v_proj.weight", kv, d, ShardDim::rows, std)};
    t.push_back(linear_weight(in + "qkv", qkv, kn::leaves_of(d), {c.leaves_attention, 3, {q, kv, kv}}));
    if (c.qkv_bias) t.push_back(bias_weight(t.back()));
    std::vector<Param> o = {matrix_param(hf + "self_attn.o_proj.weight", d, q, ShardDim::cols, joins)};
    t.push_back(linear_weight(in + "output", o, kn::leaves_of(q, c.leaves_attention), kn::leaves_of(d)));
    if (c.output_bias) t.push_back(bias_weight(t.back()));
    t.push_back(vector_weight(in + "norm2", hf + "post_attention_layernorm.weight", d, Init::ones));
    std::vector<Param> up = {matrix_param(hf + "mlp.gate_proj.weight", f, d, ShardDim::rows, std),
                             matrix_param(hf + "mlp.up_proj.weight", f, d, ShardDim::rows, std)};
    t.push_back(linear_weight(in + "up", up, kn::leaves_of(d), {c.leaves_mlp, 2, {f, f, 0}}));
    if (c.mlp_bias) t.push_back(bias_weight(t.back()));
    std::vector<Param> down = {matrix_param(hf + "mlp.down_proj.weight", d, f, ShardDim::cols, joins)};
    t.push_back(linear_weight(in + "down", down, kn::leaves_of(f, c.leaves_mlp), kn::leaves_of(d)));
    if (c.mlp_bias) t.push_back(bias_weight(t.back()));
  }
  t.push_back(vector_weight("final_norm", "model.norm.weight", d, Init::ones));
  if (!c.tied) {
    Weight head = linear_weight("head", {matrix_param("lm_head.weight", c.vocab, d, ShardDim::rows, std)}, kn::leaves_of(d),
                                kn::leaves_of(c.padded_vocab(), c.leaves_vocab));
    head.padded_rows = c.padded_vocab();
    t.push_back(head);
  }
  return t;
}

}  // namespace

Architecture llama_architecture() { return {"LlamaForCausalLM", "llama", read, write, table}; }

}  // namespace llmctl
