// SPDX-License-Identifier: Apache-2.0
// config.json to ModelSpec.
#include "core/models/model.h"

namespace llmctl {
namespace {

constexpr int kContractVersion = 1;

int leaves_field(const Json& own, const char* key, int64_t width, const std::string& who) {
  const Json* leaves = own.contains("leaves") ? &own["leaves"] : nullptr;
  check(!leaves || leaves->is_object(), Code::input, who, ": llmctl.leaves is not an object");
  if (!leaves || !leaves->contains(key)) return default_leaves(width);
  const int64_t n = config_int(*leaves, key, who + ": llmctl.leaves", 1, kn::Leaves::kMax);
  check((n & (n - 1)) == 0, Code::input, who, ": llmctl.leaves.", key, " ", n, " is not a power of two");
  return static_cast<int>(n);
}

void read_own(const Json& hf, ModelSpec& s, const std::string& who) {
  static const Json none = Json::object();
  const Json& own = hf.contains("llmctl") && hf["llmctl"].is_object() ? hf["llmctl"] : none;
  const int64_t version = config_int_or(own, "numerics", kContractVersion, who + ": llmctl", 1, 1 << 20);
  check(version == kContractVersion, Code::unsupported, who, ": numerics version ", version, ", this build has ",
        kContractVersion);
  DecoderConfig& c = s.config;
  c.leaves_attention = leaves_field(own, "attention", c.attention_width(), who);
  c.leaves_mlp = leaves_field(own, "mlp", c.intermediate, who);
  c.leaves_vocab = leaves_field(own, "vocab", c.vocab, who);
  if (c.moe.experts > 0) c.moe.leaves = leaves_field(own, "experts", c.moe.width, who);
  const std::string order = config_string_or(own, "bf16_order", "pair", who + ": llmctl");
  check(order == "pair" || order == "amx32", Code::unsupported, who, ": llmctl.bf16_order ", order,
        " is not offered: pair or amx32");
  c.order = order == "pair" ? kn::Bf16Order::pair : kn::Bf16Order::amx32;
}

// amx32 sums blocks of 32 columns: blocks of different parts of a contraction must not mix.
void check_order(const ModelSpec& s, const std::string& who) {
  if (s.config.order == kn::Bf16Order::pair || s.compute != DType::bf16) return;
  for (const Weight& w : s.table())
    for (const kn::Leaves& l : {w.forward, w.backward})
      for (int p = 0; p + 1 < l.parts; ++p)
        check(l.width[p] % 32 == 0, Code::unsupported, who, ": bf16_order amx32 wants widths that are multiples of 32, ",
              w.name, " has ", l.width[p]);
}

void read_ids(const Json& hf, const char* key, int64_t vocab, std::vector<int32_t>& out) {
  auto it = hf.find(key);
  if (it == hf.end()) return;
  auto push = [&](const Json& v) {
    if (v.is_number_integer() && v.get<int64_t>() >= 0 && v.get<int64_t>() < vocab) out.push_back(v.get<int32_t>());
  };
  if (it->is_array())
    for (const Json& v : *it) push(v);
  else
    push(*it);
}

// Each field may be in range and their product not: byte counts must fit 64 bits.
void check_size(const ModelSpec& s, const std::string& who) {
  constexpr double kMost = 1e14;
  double parameters = 0;
  for (const Weight& w : s.table())
    for (const Param& p : w.params) parameters += static_cast<double>(p.rows) * static_cast<double>(p.cols);
  check(parameters <= kMost, Code::memory, who, ": the shape has ", parameters, " parameters, at most ", kMost,
        " can be counted");
}

// What the weights are stored as: bf16 only when every matrix is.
DType stored_dtype(const fs::path& folder) {
  const TensorStore store(folder);
  bool any = false;
  for (const auto& [name, view] : store.tensors()) {
    if (view.rank != 2 || view.dtype == DType::i8 || view.dtype == DType::i32 || name.ends_with("_scale")) continue;
    if (view.dtype != DType::bf16) return DType::f32;
    any = true;
  }
  return any ? DType::bf16 : DType::f32;
}

}  // namespace

Table ModelSpec::table() const {
  Table t = architecture->table(config);
  for (Weight& w : t) w.order = config.order;
  return t;
}

ModelSpec make_model_spec(const Json& hf, DType compute, const std::string& who) {
  ModelSpec s;
  s.architecture = &architecture_of(hf, who);
  s.config = s.architecture->read(hf, who);
  s.compute = compute;
  s.quant = read_quant_scheme(hf, who);
  read_own(hf, s, who);
  check_size(s, who);
  check_order(s, who);
  read_ids(hf, "eos_token_id", s.config.vocab, s.eos_ids);
  std::vector<int32_t> bos;
  read_ids(hf, "bos_token_id", s.config.vocab, bos);
  if (!bos.empty()) s.bos_id = bos[0];
  s.hf = hf;
  const Json written = s.architecture->write(s.config);
  for (const auto& [key, value] : written.items()) s.hf[key] = value;
  s.hf["torch_dtype"] = compute == DType::bf16 ? "bfloat16" : "float32";
  s.hf["llmctl"] = {{"numerics", kContractVersion},
                    {"compute_dtype", kn::name_of(compute)},
                    {"bf16_order", kn::name_of(s.config.order)},
                    {"leaves",
                     {{"attention", s.config.leaves_attention},
                      {"mlp", s.config.leaves_mlp},
                      {"vocab", s.config.leaves_vocab}}}};
  if (s.config.moe.experts > 0) s.hf["llmctl"]["leaves"]["experts"] = s.config.moe.leaves;
  return s;
}

ModelSpec read_model_spec(const fs::path& folder) {
  check(fs::is_directory(folder), Code::input, "[model] ", folder.string(), ": no such model folder");
  const fs::path file = folder / "config.json";
  const Json hf = read_json(file);
  const std::string who = "[model] " + file.string();
  architecture_of(hf, who);
  DType compute = DType::f32;
  const std::string said =
      hf.contains("llmctl") && hf["llmctl"].is_object() ? config_string_or(hf["llmctl"], "compute_dtype", "", who) : "";
  check(said.empty() || said == "f32" || said == "bf16", Code::unsupported, who, ": compute_dtype ", said);
  if (!said.empty())
    compute = said == "bf16" ? DType::bf16 : DType::f32;
  else
    compute = stored_dtype(folder);
  ModelSpec s = make_model_spec(hf, compute, who);
  if (const fs::path generation = folder / "generation_config.json"; fs::exists(generation)) {
    const Json g = read_json(generation);
    std::vector<int32_t> eos;
    if (g.is_object()) read_ids(g, "eos_token_id", s.config.vocab, eos);
    if (!eos.empty()) s.eos_ids = eos;
  }
  return s;
}

}  // namespace llmctl
