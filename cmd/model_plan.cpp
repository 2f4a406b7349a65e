// SPDX-License-Identifier: Apache-2.0
// `llmctl model plan CONFIG|MODEL`: memory and time of a training step before anything is asked for.
#include <fmt/format.h>

#include "cmd/model.h"
#include "cmd/plan_text.h"
#include "cmd/training.h"
#include "core/train/pipeline.h"
#include "parallel/search.h"

namespace llmctl {
namespace {

struct PlanOptions {
  TrainConfig config;
  std::unique_ptr<ConfigFlags> flags;
  std::string model;
  int64_t gpus = 1, device_memory = 0;
  std::string type, machines;
  bool any_recompute = false, draw = false;
  Layout layout = any_layout();
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

// Why there is none: of the layout asked for, or of the plainest one.
[[noreturn]] void no_layout(const PlanOptions& o, const ModelSpec& spec) {
  Layout l = o.layout;
  for (int64_t* n : {&l.tp, &l.pp, &l.cp, &l.ep, &l.chunks}) *n = std::max<int64_t>(1, *n);
  l.zero = std::max(1, l.zero);
  if (l.schedule.empty()) l.schedule = l.chunks > 1 ? "interleaved" : "1f1b";
  if (l.recompute == "any") l.recompute.clear();
  if (l.dp == 0) l.dp = std::max<int64_t>(1, o.gpus / (l.tp * l.pp * l.cp * l.ep));
  const std::string why = why_not(spec, o.config, l);
  throw Error(Code::unsupported, fmt::format("[plan] no layout of {} devices: {}", o.gpus,
                                             why.empty() ? "tp x pp x dp x cp x ep is another number" : why));
}

std::string drawing(const PlanOptions& o, const Layout& l) {
  const int64_t units = (o.config.batch.units + l.replicas() - 1) / l.replicas(), pass = o.config.parallel.units_per_pass;
  const std::string& recompute = l.recompute.empty() ? o.config.parallel.recompute : l.recompute;
  return drawing_text(l, (units + pass - 1) / pass, recompute == "block");
}

// With --draw.
void add_drawing(const PlanOptions& o, const Layout& l, Json& result, std::string& text) {
  if (!o.draw) return;
  result["drawing"] = drawing(o, l);
  text += "\n" + result["drawing"].get<std::string>();
}

Hardware hardware_of(const PlanOptions& o) {
  std::vector<Hardware> rows = known_hardware();
  if (!o.machines.empty()) rows = read_hardware(read_json(o.machines), "[plan] " + o.machines, std::move(rows));
  Hardware h = hardware_named(rows, o.type);
  if (h.gemm == 0) h.gemm = hardware_named(rows, "h100").gemm;
  if (h.attention == 0) h.attention = hardware_named(rows, "h100").attention;
  if (o.device_memory > 0) h.memory = static_cast<double>(o.device_memory) / 0.9;  // given: all of it is ours
  return h;
}

int plan_times(const PlanOptions& o, const ModelSpec& spec, const Runtime& runtime, const Common& common) {
  const Hardware h = hardware_of(o);
  const std::vector<Prediction> found = search_layouts(o.config, spec, o.gpus, o.layout, h, runtime.exec);
  if (found.empty()) no_layout(o, spec);
  Json result = subject(o, spec);
  const std::string head = subject_text(result);
  result["type"] = h.name;
  result["bytes"] = found[0].memory.bytes;
  result["fits"] = found[0].fits;
  result["layouts"] = Json::array();
  for (size_t i = 0; i < found.size() && static_cast<int>(i) < o.shown; ++i) result["layouts"].push_back(prediction_json(found[i]));
  std::string text = head + predictions_text(found, o.gpus, h, o.shown);
  add_drawing(o, found[0].memory.layout, result, text);
  print_result(common, result, text);
  return found[0].fits ? 0 : static_cast<int>(Code::no);
}

int plan_many(const PlanOptions& o, const ModelSpec& spec, const Runtime& runtime, const Common& common) {
  const std::vector<LayoutPlan> plans = plan_layouts(o.config, spec, o.gpus, o.layout, runtime.exec);
  if (plans.empty()) no_layout(o, spec);
  Json layouts = Json::array();
  bool any = o.device_memory == 0;
  for (const LayoutPlan& p : plans) {
    const bool fits = o.device_memory == 0 || p.bytes <= o.device_memory;
    any = any || fits;
    Json layout = layout_json(p.layout);
    layout.update({{"bytes", p.bytes}, {"fits", fits}, {"stage", p.stage}, {"memory", lines_json(p.lines)}});
    layouts.push_back(std::move(layout));
  }
  Json result = subject(o, spec);
  const std::string head = subject_text(result);
  result["bytes"] = plans[0].bytes;
  result["fits"] = any;
  result["layouts"] = layouts;
  std::string text = head + layouts_text(plans, o.device_memory, o.shown);
  add_drawing(o, plans[0].layout, result, text);
  print_result(common, result, text);
  return any ? 0 : static_cast<int>(Code::no);
}

// What the config says of the layout holds unless a flag says otherwise; its 1s say nothing.
void keep_configured(PlanOptions& o) {
  const ParallelConfig& c = o.config.parallel;
  auto keep = [](int64_t& flag, int64_t configured) {
    if (flag == 0 && configured > 1) flag = configured;
  };
  keep(o.layout.tp, c.tp), keep(o.layout.pp, c.pp), keep(o.layout.cp, c.cp), keep(o.layout.ep, c.ep);
  keep(o.layout.chunks, c.virtual_stages);
  if (c.pp > 1 && o.layout.schedule.empty()) o.layout.schedule = c.schedule;
}

int plan(PlanOptions& o, Common& common) {
  const ModelSpec spec = resolve(o);
  keep_configured(o);
  const Runtime runtime(common);
  if (o.any_recompute) o.layout.recompute = "any";
  const Layout& l = o.layout;
  const int64_t asked = std::max<int64_t>(1, l.tp) * std::max<int64_t>(1, l.pp) * std::max<int64_t>(1, l.dp) *
                        std::max<int64_t>(1, l.cp) * std::max<int64_t>(1, l.ep);
  check(o.machines.empty() || !o.type.empty(), Code::usage, "[plan] --machines wants --type, a row of the table");
  o.gpus = std::max(o.gpus, asked);
  if (!o.type.empty()) return plan_times(o, spec, runtime, common);
  if (o.gpus == 1) return plan_one(o, spec, runtime, common);
  return plan_many(o, spec, runtime, common);
}

}  // namespace

void add_model_plan(CLI::App& app, Common& common) {
  auto o = std::make_shared<PlanOptions>();
  app.add_option("CONFIG", o->model, "training config, model folder or config.json")->required();
  app.add_option("--gpus", o->gpus, "devices")->check(CLI::Range(1, 1 << 20));
  app.add_option("--device-memory", o->device_memory, "memory of one device, 80GiB for example: exit 1 when nothing fits")
      ->transform(CLI::AsSizeValue(false));
  app.add_option("--type", o->type, "kind of device, h200 for example: predict times, energy and cost too");
  app.add_option("--machines", o->machines, "file of devices that adds to the table (parallel/hardware_table.h)");
  app.add_option("--tp", o->layout.tp, "tensor-parallel ranks, 0 for any")->check(CLI::Range(0, 8));
  app.add_option("--pp", o->layout.pp, "pipeline ranks, 0 for any")->check(CLI::Range(0, 4096));
  app.add_option("--dp", o->layout.dp, "data-parallel ranks, 0 for what is left")->check(CLI::Range(0, 1 << 20));
  app.add_option("--cp", o->layout.cp, "context-parallel ranks, 0 for any")->check(CLI::Range(0, 4096));
  app.add_option("--ep", o->layout.ep, "expert-parallel ranks, 0 for any")->check(CLI::Range(0, 4096));
  app.add_option("--schedule", o->layout.schedule, "pipeline schedule: 1f1b, interleaved, zero_bubble or gpipe")
      ->check(CLI::IsMember(schedule_kinds()));
  app.add_option("--chunks", o->layout.chunks, "model chunks of a pipeline rank, 0 for any")->check(CLI::Range(0, 64));
  app.add_flag("--any-recompute", o->any_recompute, "search parallel.recompute, too");
  app.add_option("--zero", o->layout.zero, "what data-parallel ranks share: 0 nothing to 3, -1 for any")
      ->check(CLI::Range(-1, 3));
  app.add_flag("--draw", o->draw, "draw the pipeline schedule of the first layout");
  app.add_option("--layouts", o->shown, "layouts to print")->check(CLI::Range(1, 10000));
  o->flags = std::make_unique<ConfigFlags>(app, common, fields_of(o->config));
  examples(app, {"llmctl model plan train.json",
                 "llmctl model plan config.json --gpus 64 --device-memory 80GiB",
                 "llmctl model plan config.json --gpus 64 --type h200 --unit.seq_len 8192 --batch.units 512",
                 "llmctl model plan config.json --gpus 64 --tp 8 --zero 1 --unit.seq_len 8192 --json"});
  on_run(app, common, [o, &common] { return plan(*o, common); });
}

}  // namespace llmctl
