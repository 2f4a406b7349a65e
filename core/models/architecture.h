// SPDX-License-Identifier: Apache-2.0
// An architecture is a row here and one file: how Hugging Face's config.json maps to DecoderConfig
// and back, and the table of its parameters.
#pragma once

#include <string>
#include <vector>

#include "core/base/json.h"
#include "core/nn/decoder.h"

namespace llmctl {

struct Architecture {
  const char* name;        // config.json "architectures"[0]
  const char* model_type;  // config.json "model_type"
  // Shapes only; `who` starts every message. Error{input} for missing or absurd values,
  // Error{unsupported} for options that would change the arithmetic and are not offered.
  DecoderConfig (*read)(const Json& hf, const std::string& who);
  // The fields that `read` understands, for a model made here.
  Json (*write)(const DecoderConfig& config);
  Table (*table)(const DecoderConfig& config);
};

const std::vector<Architecture>& architectures();
// By "architectures"[0] or model_type; Error{unsupported} naming those known.
const Architecture& architecture_of(const Json& hf, const std::string& who);

Architecture llama_architecture();
Architecture gpt2_architecture();
Architecture mixtral_architecture();
Architecture qwen2_moe_architecture();
Architecture qwen3_architecture();
Architecture qwen3_moe_architecture();

// Typed reads of config.json: required, or with a default when absent or null.
int64_t config_int(const Json& hf, const char* key, const std::string& who, int64_t low, int64_t high);
int64_t config_int_or(const Json& hf, const char* key, int64_t fallback, const std::string& who, int64_t low,
                      int64_t high);
double config_number_or(const Json& hf, const char* key, double fallback, const std::string& who);
bool config_bool_or(const Json& hf, const char* key, bool fallback, const std::string& who);
std::string config_string_or(const Json& hf, const char* key, const std::string& fallback, const std::string& who);
// A float as the decimal a person wrote: 0.02f is 0.02.
double shortest(float v);
// Error{unsupported} unless hf[key] is absent, null or equal to `value`.
void config_only(const Json& hf, const char* key, const Json& value, const std::string& who);

// The entries every architecture shares.
Weight linear_weight(std::string name, std::vector<Param> params, kn::Leaves forward, kn::Leaves backward);
Param matrix_param(std::string name, int64_t rows, int64_t cols, ShardDim shard, float init_std);
Weight vector_weight(std::string name, std::string file_name, int64_t size, Init init);
// "<name>.bias" for a linear whose parameters' file names end in "weight": one entry for each.
Weight bias_weight(const Weight& linear);
// The embedding (and head when tied).
Weight embedding_weight(const DecoderConfig& c, std::string file_name);

}  // namespace llmctl
