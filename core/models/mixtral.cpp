// SPDX-License-Identifier: Apache-2.0
// MixtralForCausalLM (Jiang et al. 2024; Hugging Face's names): Llama's block with a mixture of experts in
// every layer, the chosen experts' weights renormalised.
#include "core/models/llama_family.h"

namespace llmctl {
namespace {

DecoderConfig read(const Json& hf, const std::string& who) {
  DecoderConfig c = read_family(hf, who, {.norm_eps = 1e-5, .rope_theta = 1e6});
  config_only(hf, "sliding_window", nullptr, who);
  config_only(hf, "router_jitter_noise", 0.0, who);
  c.moe.experts = config_int_or(hf, "num_local_experts", 8, who, 1, 1 << 20);
  c.moe.width = c.intermediate;
  read_routing(hf, who, c.moe);
  return c;
}

Json write(const DecoderConfig& c) {
  Json out = write_family(c, mixtral_architecture());
  out["num_local_experts"] = c.moe.experts;
  write_routing(c.moe, out);
  return out;
}

Table table(const DecoderConfig& c) { return family_table(c, {"block_sparse_moe", "w1", "w3", "w2"}); }

}  // namespace

Architecture mixtral_architecture() { return {"MixtralForCausalLM", "mixtral", read, write, table}; }

}  // namespace llmctl
