// SPDX-License-Identifier: Apache-2.0
// GPT2LMHeadModel (Radford et al. 2019; Hugging Face's names): LayerNorm with biases, learned
// positions, tied head, tanh GELU. Linear weights lie transposed in files (Conv1D).
#include <fmt/format.h>

#include "core/models/architecture.h"

namespace llmctl {
namespace {

constexpr int64_t kMost = int64_t{1} << 24;

DecoderConfig read(const Json& hf, const std::string& who) {
  DecoderConfig c;
  c.hidden = config_int(hf, "n_embd", who, 1, kMost);
  c.layers = config_int(hf, "n_layer", who, 1, 4096);
  c.heads = c.kv_heads = config_int(hf, "n_head", who, 1, 4096);
  c.vocab = config_int(hf, "vocab_size", who, 1, kMost);
  c.positions = config_int(hf, "n_positions", who, 1, kMost);
  c.intermediate = config_int_or(hf, "n_inner", 4 * c.hidden, who, 1, kMost);
  check(c.hidden % c.heads == 0, Code::input, who, ": n_embd ", c.hidden, " does not divide by n_head ", c.heads);
  c.head_dim = c.hidden / c.heads;
  check(c.head_dim <= 256, Code::unsupported, who, ": head size ", c.head_dim, " is above 256");
  c.norm_eps = static_cast<float>(config_number_or(hf, "layer_norm_epsilon", 1e-5, who));
  c.init_std = static_cast<float>(config_number_or(hf, "initializer_range", 0.02, who));
  check(c.norm_eps > 0, Code::input, who, ": layer_norm_epsilon must be positive");
  check(c.init_std >= 0, Code::input, who, ": initializer_range must not be negative");
  c.layer_norm = c.learned_positions = c.qkv_bias = c.output_bias = c.mlp_bias = true;
  c.tied = config_bool_or(hf, "tie_word_embeddings", true, who);
  const std::string act = config_string_or(hf, "activation_function", "gelu_new", who);
  check(act == "gelu_new" || act == "gelu_pytorch_tanh" || act == "gelu", Code::unsupported, who,
        ": activation_function ", act, " is not supported (gelu_new, gelu_pytorch_tanh, gelu)");
  c.mlp = act == "gelu" ? MlpKind::gelu_erf : MlpKind::gelu_tanh;
  config_only(hf, "scale_attn_weights", true, who);
  config_only(hf, "scale_attn_by_inverse_layer_idx", false, who);
  config_only(hf, "reorder_and_upcast_attn", false, who);
  config_only(hf, "add_cross_attention", false, who);
  return c;
}

Json write(const DecoderConfig& c) {
  return {{"architectures", {"GPT2LMHeadModel"}},
          {"model_type", "gpt2"},
          {"n_embd", c.hidden},
          {"n_inner", c.intermediate},
          {"n_layer", c.layers},
          {"n_head", c.heads},
          {"vocab_size", c.vocab},
          {"n_positions", c.positions},
          {"layer_norm_epsilon", shortest(c.norm_eps)},
          {"activation_function", c.mlp == MlpKind::gelu_erf ? "gelu" : "gelu_new"},
          {"attn_pdrop", 0.0},
          {"embd_pdrop", 0.0},
          {"resid_pdrop", 0.0},
          {"initializer_range", shortest(c.init_std)},
          {"tie_word_embeddings", c.tied}};
}

Param conv1d(std::string name, int64_t rows, int64_t cols, ShardDim shard, float std) {
  Param p = matrix_param(std::move(name), rows, cols, shard, std);
  p.transposed = true;
  // Checkpoints of the bare GPT2Model leave the prefix out.
  p.aliases = {p.name.substr(std::string("transformer.").size())};
  return p;
}

void add_norm(Table& t, const std::string& name, const std::string& hf, int64_t size) {
  for (const auto& [suffix, file, init] : {std::tuple{"", ".weight", Init::ones}, {".bias", ".bias", Init::zeros}}) {
    Weight w = vector_weight(name + suffix, hf + file, size, init);
    w.params[0].aliases = {w.params[0].name.substr(std::string("transformer.").size())};
    t.push_back(w);
  }
}

void add_linear(Table& t, const std::string& name, const Param& p, kn::Leaves forward, kn::Leaves backward) {
  t.push_back(linear_weight(name, {p}, forward, backward));
  Weight bias = bias_weight(t.back());
  bias.params[0].aliases = {bias.params[0].name.substr(std::string("transformer.").size())};
  t.push_back(bias);
}

Table table(const DecoderConfig& c) {
  const float std = c.init_std, joins = c.residual_init_std();
  Table t;
  t.push_back(embedding_weight(c, "transformer.wte.weight"));
  t.back().params[0].aliases = {"wte.weight"};
  Weight positions;
  positions.name = "positions";
  positions.role = Role::table;
  positions.params = {matrix_param("transformer.wpe.weight", c.positions, c.hidden, ShardDim::none, std)};
  positions.params[0].aliases = {"wpe.weight"};
  t.push_back(positions);
  const int64_t d = c.hidden, f = c.intermediate;
  for (int64_t l = 0; l < c.layers; ++l) {
    const std::string in = fmt::format("blocks.{}.", l), hf = fmt::format("transformer.h.{}.", l);
    add_norm(t, in + "norm1", hf + "ln_1", d);
    add_linear(t, in + "qkv", conv1d(hf + "attn.c_attn.weight", 3 * d, d, ShardDim::rows, std), kn::leaves_of(d),
               {c.leaves_attention, 3, {d, d, d}});
    add_linear(t, in + "output", conv1d(hf + "attn.c_proj.weight", d, d, ShardDim::cols, joins),
               kn::leaves_of(d, c.leaves_attention), kn::leaves_of(d));
    add_norm(t, in + "norm2", hf + "ln_2", d);
    add_linear(t, in + "up", conv1d(hf + "mlp.c_fc.weight", f, d, ShardDim::rows, std), kn::leaves_of(d),
               kn::leaves_of(f, c.leaves_mlp));
    add_linear(t, in + "down", conv1d(hf + "mlp.c_proj.weight", d, f, ShardDim::cols, joins),
               kn::leaves_of(f, c.leaves_mlp), kn::leaves_of(d));
  }
  add_norm(t, "final_norm", "transformer.ln_f", d);
  if (!c.tied) {
    Weight head = linear_weight("head", {matrix_param("lm_head.weight", c.vocab, d, ShardDim::rows, std)},
                                kn::leaves_of(d), kn::leaves_of(c.padded_vocab(), c.leaves_vocab));
    head.padded_rows = c.padded_vocab();
    t.push_back(head);
  }
  return t;
}

}  // namespace

Architecture gpt2_architecture() { return {"GPT2LMHeadModel", "gpt2", read, write, table}; }

}  // namespace llmctl
