// SPDX-License-Identifier: Apache-2.0
// `llmctl model inspect|diff|convert|plan`, and the parameter table for people.
#include "cmd/model.h"

#include <fmt/format.h>

#include <optional>
#include <set>

#include "cmd/commands.h"

namespace llmctl {
namespace {

const char* name_of(Role r) { return r == Role::linear ? "linear" : r == Role::table ? "table" : "vector"; }
const char* name_of(ShardDim s) { return s == ShardDim::rows ? "rows" : s == ShardDim::cols ? "cols" : "none"; }

std::string shape_text(const View& v) {
  std::string text;
  for (int i = 0; i < v.rank; ++i) text += (i ? "x" : "") + std::to_string(v.dim[static_cast<size_t>(i)]);
  return text.empty() ? "scalar" : text;
}

Json shape_json(const View& v) {
  Json shape = Json::array();
  for (int i = 0; i < v.rank; ++i) shape.push_back(v.dim[static_cast<size_t>(i)]);
  return shape;
}

// What the file holds for one parameter: one tensor, or the tensors of a quantised matrix.
struct Stored {
  std::string dtype;
  View shape;
  int64_t bytes = 0;
  bool quantised = false, missing = false;
  std::vector<std::string> names;
};

Stored stored_of(const TensorStore* store, const ModelSpec& spec, const Weight& w, const Param& p) {
  Stored s;
  s.shape = file_shape(p, w.role, spec.compute);
  s.dtype = kn::name_of(spec.compute);
  s.bytes = s.shape.bytes();
  if (!store) return s;
  const std::string module = p.name.substr(0, p.name.rfind(".weight"));
  if (spec.quant && is_quantised(*store, module)) {
    s.quantised = true;
    s.dtype = fmt::format("int{}", spec.quant->bits);
    s.bytes = 0;
    for (const char* part : {".weight", ".weight_packed", ".weight_scale", ".weight_shape"})
      if (store->has(module + part)) {
        s.names.push_back(module + part);
        s.bytes += store->at(module + part).bytes();
      }
    return s;
  }
  s.missing = !store->has(p.name);
  for (const std::string& alias : p.aliases) s.missing = s.missing && !store->has(alias);
  if (s.missing) return s;
  s.shape = find_tensor(*store, p);
  s.names.push_back(store->has(p.name) ? p.name : "");
  for (const std::string& alias : p.aliases)
    if (!store->has(p.name) && store->has(alias)) s.names.back() = alias;
  s.dtype = kn::name_of(s.shape.dtype);
  s.bytes = s.shape.bytes();
  return s;
}

Json config_summary(const ModelSpec& spec) {
  const DecoderConfig& c = spec.config;
  Json leaves = {{"attention", c.leaves_attention}, {"mlp", c.leaves_mlp}, {"vocab", c.leaves_vocab}};
  if (c.moe.experts > 0) leaves["experts"] = c.moe.leaves;
  Json experts = nullptr;
  if (c.moe.experts > 0)
    experts = {{"count", c.moe.experts}, {"per_token", c.moe.per_token}, {"width", c.moe.width},
               {"layers", c.moe.layers_of(c.layers)}};
  return {{"architecture", spec.architecture->name},
          {"layers", c.layers},
          {"hidden", c.hidden},
          {"heads", c.heads},
          {"kv_heads", c.kv_heads},
          {"head_dim", c.head_dim},
          {"intermediate", c.intermediate},
          {"vocab", c.vocab},
          {"context", c.positions},
          {"tied", c.tied},
          {"compute_dtype", kn::name_of(spec.compute)},
          {"experts", experts},
          {"leaves", leaves},
          {"kv_bytes_per_token", 2 * c.layers * c.kv_width() * size_of(spec.compute)}};
}

struct Inspection {
  Json rows = Json::array(), missing = Json::array(), extra = Json::array();
  std::string text;
  int64_t bytes = 0;
};

void add_row(Inspection& in, const Weight& w, const Param& p, const Stored& s) {
  in.bytes += s.bytes;
  if (s.missing) in.missing.push_back(p.name);
  in.rows.push_back({{"weight", w.name},
                     {"name", p.name},
                     {"shape", shape_json(s.shape)},
                     {"dtype", s.dtype},
                     {"bytes", s.bytes},
                     {"role", name_of(w.role)},
                     {"leaves_forward", w.forward.count},
                     {"leaves_backward", w.backward.count},
                     {"shard", name_of(p.shard)},
                     {"decay", p.decay},
                     {"quantised", s.quantised},
                     {"missing", s.missing}});
  in.text += fmt::format("{:<20} {:<48} {:>14} {:<5} {:>11} {:<7} {:>3}/{:<3} {:<5} {}{}\n", w.name, p.name,
                         shape_text(s.shape), s.dtype, human_bytes(s.bytes), name_of(w.role), w.forward.count,
                         w.backward.count, name_of(p.shard), p.decay ? "yes" : "no", s.missing ? "  MISSING" : "");
}

Inspection inspect_table(const ModelSpec& spec, const TensorStore* store) {
  Inspection in;
  in.text = fmt::format("{:<20} {:<48} {:>14} {:<5} {:>11} {:<7} {:<7} {:<5} {}\n", "weight", "name", "shape", "dtype",
                        "bytes", "role", "leaves", "shard", "decay");
  std::set<std::string> seen;
  for (const Weight& w : spec.table())
    for (const Param& p : w.params) {
      const Stored s = stored_of(store, spec, w, p);
      seen.insert(s.names.begin(), s.names.end());
      add_row(in, w, p, s);
    }
  if (store)
    for (const auto& [name, view] : store->tensors())
      if (!seen.count(name)) in.extra.push_back(name);
  return in;
}

int inspect(const std::string& model, Common& common) {
  const ModelSpec spec = spec_of_shape(model);
  std::optional<TensorStore> store;
  if (has_weights(model)) store.emplace(model);
  Inspection in = inspect_table(spec, store ? &*store : nullptr);
  const int64_t parameters = parameter_count(spec.table());
  const Json config = config_summary(spec);
  std::string text = in.text + "\n";
  for (const auto& [key, value] : config.items())
    text += fmt::format("{:<20} {}\n", key, value.is_string() ? value.get<std::string>() : value.dump());
  text += fmt::format("{:<20} {}\n{:<20} {} ({:.2f} bits per parameter){}", "parameters", parameters, "bytes",
                      human_bytes(in.bytes), 8.0 * static_cast<double>(in.bytes) / static_cast<double>(parameters),
                      store ? "" : ", no weights here");
  for (const Json& name : in.extra) text += "\nnot in the table: " + name.get<std::string>();
  print_result(common,
               {{"config", config},
                {"parameters", parameters},
                {"bytes", in.bytes},
                {"weights", store.has_value()},
                {"tensors", in.rows},
                {"missing", in.missing},
                {"extra", in.extra}},
               text);
  return in.missing.empty() ? 0 : static_cast<int>(Code::no);
}

// config.json of a folder, or the file itself.
fs::path config_file(const fs::path& model) { return fs::is_directory(model) ? model / "config.json" : model; }

}  // namespace

bool has_weights(const fs::path& model) {
  return fs::exists(model / "model.safetensors") || fs::exists(model / "model.safetensors.index.json");
}

ModelSpec spec_of_shape(const fs::path& model) {
  if (has_weights(model)) return read_model_spec(model);
  const fs::path file = config_file(model);
  Json hf = read_json(file);
  const std::string who = "[model] " + file.string();
  check(hf.is_object(), Code::input, who, ": not a JSON object");
  const std::string dtype = config_string_or(hf, "dtype", config_string_or(hf, "torch_dtype", "float32", who), who);
  hf.erase("rope_scaling");
  if (auto it = hf.find("rope_parameters"); it != hf.end() && it->is_object()) (*it)["rope_type"] = "default";
  return make_model_spec(hf, dtype == "float32" ? DType::f32 : DType::bf16, who);
}

void add_model_inspect(CLI::App& app, Common& common) {
  auto model = std::make_shared<std::string>();
  app.add_option("MODEL", *model, "model folder, or a config.json alone")->required();
  examples(app, {"llmctl model inspect runs/first/checkpoints/step-1000/model", "llmctl model inspect config.json --json"});
  on_run(app, common, [model, &common] { return inspect(*model, common); });
}

void add_model(CLI::App& app, Common& common) {
  add_model_inspect(*app.add_subcommand("inspect", "the parameter table, and whether the files agree"), common);
  add_model_diff(*app.add_subcommand("diff", "the first tensor and element that differ"), common);
  add_model_convert(*app.add_subcommand("convert", "another dtype or another sharding"), common);
  add_model_plan(*app.add_subcommand("plan", "memory of a training step, here or on many devices"), common);
  app.require_subcommand(1);
  examples(app, {"llmctl model inspect model", "llmctl model plan config.json --gpus 64 --device-memory 80GiB"});
}

}  // namespace llmctl
