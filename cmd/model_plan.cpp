// SPDX-License-Identifier: Apache-2.0
// `llmctl model plan CONFIG|MODEL`: memory of a training step before anything is asked for.
#include <fmt/format.h>

#include "cmd/model.h"
#include "cmd/training.h"
#include "parallel/plan.h"

namespace llmctl {
namespace {

struct PlanOptions {
  TrainConfig config;
  std::unique_ptr<ConfigFlags> flags;
  std::string model;
  int64_t gpus = 1, device_memory = 0;
  Layout layout{0, 0, 0, -1};
  int shown = 12;
};

// A training config has fields that no config.json has.
bool is_training_config(const fs::path& path) {
  if (fs::is_directory(path)) return false;
  const Json json = read_json(path);
  return json.is_object() && !json.contains("architectures") && !json.contains("model_type");
}

ModelSpec resolve(PlanOptions& o) {
  if (is_training_config(o.model)) {
    o.flags->resolve(o.model);
    return training_spec(o.config);
  }
  const ModelSpec shape = spec_of_shape(o.model);
  check(!shape.quant, Code::unsupported, "[plan] ", o.model, ": quantised weights cannot be trained");
  // A model says nothing of the batch: one row of a common length, a unit for each device.
  o.config.unit = {1, std::min<int64_t>(shape.config.positions, 4096)};
  o.config.batch.units = std::max<int64_t>(8, o.gpus);
  if (o.gpus > 1) o.config.parallel.recompute = "block";
  o.flags->resolve("");
  return make_model_spec(shape.hf, o.config.numerics.compute == "bf16" ? DType::bf16 : DType::f32, "[plan] " + o.model);
}

Json lines_json(const std::vector<MemoryLine>& lines) {
  Json json = Json::array();
  for (const MemoryLine& line : lines) json.push_back({{"what", line.what}, {"bytes", line.bytes}});
  return json;
}

std::string lines_text(const std::vector<MemoryLine>& lines) {
  std::string text;
  for (const MemoryLine& line : lines) text += fmt::format("{:<32} {:>12}\n", line.what, human_bytes(line.bytes));
  return text + fmt::format("{:<32} {:>12}", "total", human_bytes(total_bytes(lines)));
}

// What is planned, in one line and as fields.
Json subject(const PlanOptions& o, const ModelSpec& spec) {
  const Table table = spec.table();
  const double tokens = static_cast<double>(o.config.unit.sequences * o.config.unit.seq_len * o.config.batch.units);
  return {{"parameters", parameter_count(table)},
          {"tokens_per_step", static_cast<int64_t>(tokens)},
          {"flops_per_step", tokens * training_flops_per_token(spec.config, table, o.config.unit.seq_len)},
          {"sequences", o.config.unit.sequences},
          {"seq_len", o.config.unit.seq_len},
          {"units", o.config.batch.units},
          {"compute", o.config.numerics.compute},
          {"recompute", o.config.parallel.recompute}};
}

std::string subject_text(const Json& s) {
  return fmt::format("{} parameters; a step of {} units of {} x {} tokens, {}, recompute {}, {:.3g} FLOP\n",
                     short_count(s["parameters"].get<double>()), s["units"].get<int64_t>(),
                     s["sequences"].get<int64_t>(), s["seq_len"].get<int64_t>(), s["compute"].get<std::string>(),
                     s["recompute"].get<std::string>(), s["flops_per_step"].get<double>());
}

int plan_one(const PlanOptions& o, const ModelSpec& spec, const Runtime& runtime, const Common& common) {
  const std::vector<MemoryLine> lines = plan_here(o.config, spec, runtime.exec);
  const int64_t bytes = total_bytes(lines);
  const bool fits = o.device_memory == 0 || bytes <= o.device_memory;
  Json result = subject(o, spec);
  const std::string head = subject_text(result);
  result["bytes"] = bytes;
  result["memory"] = lines_json(lines);
  result["fits"] = fits;
  print_result(common, result, head + lines_text(lines) + (fits ? "" : "\ndoes not fit " + human_bytes(o.device_memory)));
  return fits ? 0 : static_cast<int>(Code::no);
}

std::string layouts_text(const PlanOptions& o, const std::vector<LayoutPlan>& plans) {
  std::string text = fmt::format("{:>4} {:>4} {:>4} {:>5} {:>12} {:>12} {:>12} {:>12} {:>12}  {}\n", "tp", "pp", "dp",
                                 "zero", "per device", "states", "gradients", "compute", "activations", "fits");
  for (size_t i = 0; i < plans.size() && static_cast<int>(i) < o.shown; ++i) {
    const LayoutPlan& p = plans[i];
    text += fmt::format("{:>4} {:>4} {:>4} {:>5} {:>12} {:>12} {:>12} {:>12} {:>12}  {}\n", p.layout.tp, p.layout.pp,
                        p.layout.dp, p.layout.zero, human_bytes(p.bytes), human_bytes(p.lines[0].bytes),
                        human_bytes(p.lines[1].bytes), human_bytes(p.lines[2].bytes), human_bytes(p.lines[3].bytes),
                        o.device_memory == 0 ? "-" : p.bytes <= o.device_memory ? "yes" : "no");
  }
  return text + fmt::format("\nsmallest, stage {} of {}:\n{}", plans[0].stage, plans[0].layout.pp,
                            lines_text(plans[0].lines));
}

int plan_many(const PlanOptions& o, const ModelSpec& spec, const Runtime& runtime, const Common& common) {
  const std::vector<LayoutPlan> plans = plan_layouts(o.config, spec, o.gpus, o.layout, runtime.exec);
  if (plans.empty()) {  // say why: of the layout asked for, or of the plainest one
    Layout l{std::max<int64_t>(1, o.layout.tp), std::max<int64_t>(1, o.layout.pp), 1, std::max(1, o.layout.zero)};
    l.dp = o.layout.dp ? o.layout.dp : std::max<int64_t>(1, o.gpus / (l.tp * l.pp));
    const std::string why = why_not(spec, o.config, l);
    throw Error(Code::unsupported, fmt::format("[plan] no layout of {} devices: {}", o.gpus,
                                               why.empty() ? "tp x pp x dp is another number" : why));
  }
  Json layouts = Json::array();
  bool any = o.device_memory == 0;
  for (const LayoutPlan& p : plans) {
    const bool fits = o.device_memory == 0 || p.bytes <= o.device_memory;
    any = any || fits;
    layouts.push_back({{"tp", p.layout.tp}, {"pp", p.layout.pp}, {"dp", p.layout.dp}, {"zero", p.layout.zero},
                       {"bytes", p.bytes}, {"fits", fits}, {"stage", p.stage}, {"memory", lines_json(p.lines)}});
  }
  Json result = subject(o, spec);
  const std::string head = subject_text(result);
  result["bytes"] = plans[0].bytes;
  result["fits"] = any;
  result["layouts"] = layouts;
  print_result(common, result, head + layouts_text(o, plans));
  return any ? 0 : static_cast<int>(Code::no);
}

int plan(PlanOptions& o, Common& common) {
  const ModelSpec spec = resolve(o);
  const Runtime runtime(common);
  const bool many = o.gpus > 1 || o.layout.tp > 1 || o.layout.pp > 1 || o.layout.dp > 1;
  if (!many) return plan_one(o, spec, runtime, common);
  const int64_t asked = std::max<int64_t>(1, o.layout.tp) * std::max<int64_t>(1, o.layout.pp) *
                        std::max<int64_t>(1, o.layout.dp);
  o.gpus = std::max(o.gpus, asked);
  return plan_many(o, spec, runtime, common);
}

}  // namespace

void add_model_plan(CLI::App& app, Common& common) {
  auto o = std::make_shared<PlanOptions>();
  app.add_option("CONFIG", o->model, "training config, model folder or config.json")->required();
  app.add_option("--gpus", o->gpus, "devices")->check(CLI::Range(1, 1 << 20));
  app.add_option("--device-memory", o->device_memory, "memory of one device, 80GiB for example: exit 1 when nothing fits")
      ->transform(CLI::AsSizeValue(false));
  app.add_option("--tp", o->layout.tp, "tensor-parallel ranks, 0 for any")->check(CLI::Range(0, 8));
  app.add_option("--pp", o->layout.pp, "pipeline stages, 0 for any")->check(CLI::Range(0, 4096));
  app.add_option("--dp", o->layout.dp, "data-parallel ranks, 0 for what is left")->check(CLI::Range(0, 1 << 20));
  app.add_option("--zero", o->layout.zero, "what data-parallel ranks share: 0 nothing to 3, -1 for any")
      ->check(CLI::Range(-1, 3));
  app.add_option("--layouts", o->shown, "layouts to print")->check(CLI::Range(1, 10000));
  o->flags = std::make_unique<ConfigFlags>(app, common, fields_of(o->config));
  examples(app, {"llmctl model plan train.json",
                 "llmctl model plan config.json --gpus 64 --device-memory 80GiB",
                 "llmctl model plan config.json --gpus 64 --tp 8 --zero 3 --unit.seq_len 8192 --json"});
  on_run(app, common, [o, &common] { return plan(*o, common); });
}

}  // namespace llmctl
