// SPDX-License-Identifier: Apache-2.0
// What Llama, Mixtral and Qwen3 share: RMSNorm, rotary positions, grouped-query attention and SwiGLU, dense
// or in a mixture of experts, under nearly the same names.
#pragma once

#include "core/models/architecture.h"

namespace llmctl {

// Values of fields that a config.json may leave out.
struct FamilyDefaults {
  double norm_eps = 1e-6, rope_theta = 10000.0;
  int64_t head_dim = 0;  // hidden / heads
};

// hidden_size, num_hidden_layers, the heads, intermediate_size, vocab_size, positions, norm, rotation, tying.
DecoderConfig read_family(const Json& hf, const std::string& who, const FamilyDefaults& defaults = {});
Json write_family(const DecoderConfig& config, const Architecture& architecture);

// Of a mixture of experts: num_experts_per_tok, router_aux_loss_coef (0.001 where it is not given) and
// router_z_loss_coef (ours, 0). Call when experts and width are set.
void read_routing(const Json& hf, const std::string& who, MoeConfig& moe);
void write_routing(const MoeConfig& moe, Json& out);

// Tensor names of a mixture: model.layers.N.<block>.gate, <block>.experts.E.<gate|up|down>, and of a shared
// expert <block>.shared_expert.<gate|up|down> and <block>.shared_expert_gate.
struct ExpertNames {
  const char *block, *gate, *up, *down;
};
Table family_table(const DecoderConfig& config, const ExpertNames& names = {});

}  // namespace llmctl
