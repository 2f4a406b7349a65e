// SPDX-License-Identifier: Apache-2.0
// LlamaForCausalLM (Touvron et al. 2023; Hugging Face's names): RMSNorm, rotary positions,
// grouped-query attention, SwiGLU.
#include "core/models/llama_family.h"

namespace llmctl {
namespace {

DecoderConfig read(const Json& hf, const std::string& who) {
  DecoderConfig c = read_family(hf, who);
  c.qkv_bias = c.output_bias = config_bool_or(hf, "attention_bias", false, who);
  c.mlp_bias = config_bool_or(hf, "mlp_bias", false, who);
  config_only(hf, "pretraining_tp", 1, who);
  return c;
}

Json write(const DecoderConfig& c) {
  Json out = write_family(c, llama_architecture());
  out["attention_bias"] = c.qkv_bias;
  out["mlp_bias"] = c.mlp_bias;
  return out;
}

Table table(const DecoderConfig& c) { return family_table(c); }

}  // namespace

Architecture llama_architecture() { return {"LlamaForCausalLM", "llama", read, write, table}; }

}  // namespace llmctl
