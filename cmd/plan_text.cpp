// SPDX-License-Identifier: Apache-2.0
#include "cmd/plan_text.h"

#include <fmt/format.h>

#include "cmd/flags.h"
#include "core/train/pipeline.h"

namespace llmctl {
namespace {

struct TimePart {
  const char* name;
  double StepTime::*value;
};
constexpr TimePart kTimes[] = {{"compute", &StepTime::compute},   {"memory", &StepTime::memory},
                               {"tensor", &StepTime::tensor},     {"context", &StepTime::context},
                               {"experts", &StepTime::experts},   {"pipeline", &StepTime::pipeline},
                               {"data", &StepTime::data},         {"bubble", &StepTime::bubble},
                               {"optimizer", &StepTime::optimizer}};
struct TrafficPart {
  const char* name;
  double Traffic::*value;
};
constexpr TrafficPart kTraffic[] = {{"tensor", &Traffic::tensor},
                                    {"pipeline", &Traffic::pipeline},
                                    {"data", &Traffic::data},
                                    {"context", &Traffic::context},
                                    {"experts", &Traffic::experts}};

std::string schedule_text(const Layout& l) {
  if (l.pp == 1) return "-";
  return l.chunks > 1 ? fmt::format("{} x{}", l.schedule, l.chunks) : l.schedule;
}

std::string axes_text(const Layout& l) {
  return fmt::format("{:>3} {:>3} {:>5} {:>3} {:>3} {:>4} {:<14} {:<9}", l.tp, l.pp, l.dp, l.cp, l.ep, l.zero, schedule_text(l),
                     l.recompute.empty() ? "-" : l.recompute);
}

std::string axes_title() {
  return fmt::format("{:>3} {:>3} {:>5} {:>3} {:>3} {:>4} {:<14} {:<9}", "tp", "pp", "dp", "cp", "ep", "zero", "schedule",
                     "recompute");
}

std::string first_text(const Prediction& p, int64_t devices, const Hardware& h) {
  std::string text = fmt::format("\nfirst on {} {}: {:.3f} s a step, limited by {}\n", devices, h.name, p.seconds, p.limit);
  for (const TimePart& part : kTimes)
    if (p.time.*part.value > 0)
      text += fmt::format("  {:<12} {:>10.4f} s {:>6.1f} %\n", part.name, p.time.*part.value, 100 * p.time.*part.value / p.seconds);
  text += "sent by a device in a step\n";
  for (const TrafficPart& part : kTraffic)
    if (p.time.traffic.*part.value > 0)
      text += fmt::format("  {:<12} {:>10}\n", part.name, human_bytes(static_cast<int64_t>(p.time.traffic.*part.value)));
  text += fmt::format("{:.3g} tokens a day; a billion tokens: {:.2f} hours, {:.1f} kWh, {:.2f} in the table's money\n",
                      p.tokens_per_day, 24e9 / p.tokens_per_day, p.joules_per_token * 1e9 / 3.6e6, p.price_per_token * 1e9);
  return text + "memory of its fullest device\n" + lines_text(p.memory.lines);
}

}  // namespace

std::string drawing_text(const Layout& l, int64_t units, bool recomputes_blocks) {
  const PipeSchedule s = make_schedule(l.pp > 1 ? l.schedule : "1f1b", static_cast<int>(l.pp), static_cast<int>(l.chunks),
                                       static_cast<int>(units));
  const PipeCosts costs{.backward_input = recomputes_blocks ? 2.0 : 1.0};
  const PipeTimes t = simulate(s, costs);
  std::string text = fmt::format("{} of {} units: idle {:.1f} %\n{}", schedule_text(l), units, 100 * t.bubble, draw(s, costs, 1, 60));
  for (size_t rank = 0; rank < t.bubble_of_rank.size(); ++rank)
    text += fmt::format("rank {:<3} idle {:>5.1f} %, holds {}\n", rank, 100 * t.bubble_of_rank[rank], t.alive_of_rank[rank]);
  text.pop_back();
  return text;
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

Json layout_json(const Layout& l) {
  Json json = {{"tp", l.tp}, {"pp", l.pp}, {"dp", l.dp}, {"cp", l.cp}, {"ep", l.ep}, {"zero", l.zero}};
  if (l.pp > 1) json.update({{"schedule", l.schedule}, {"chunks", l.chunks}});
  if (!l.recompute.empty()) json["recompute"] = l.recompute;
  return json;
}

Json prediction_json(const Prediction& p) {
  Json json = layout_json(p.memory.layout);
  json.update({{"bytes", p.memory.bytes},
               {"fits", p.fits},
               {"seconds", p.seconds},
               {"tflops_per_device", p.flops_per_device / 1e12},
               {"mfu", p.mfu},
               {"hfu", p.hfu},
               {"bubble", p.bubble},
               {"limit", p.limit},
               {"tokens_per_day", p.tokens_per_day},
               {"kwh_per_billion_tokens", p.joules_per_token * 1e9 / 3.6e6},
               {"price_per_billion_tokens", p.price_per_token * 1e9}});
  for (const TimePart& part : kTimes) json["time"][part.name] = p.time.*part.value;
  for (const TrafficPart& part : kTraffic) json["traffic"][part.name] = p.time.traffic.*part.value;
  json["stage"] = p.memory.stage;
  json["memory"] = lines_json(p.memory.lines);
  return json;
}

std::string layouts_text(const std::vector<LayoutPlan>& plans, int64_t device_memory, int shown) {
  std::string text = axes_title() + fmt::format(" {:>12} {:>12} {:>12} {:>12} {:>12}  {}\n", "per device", "states", "gradients",
                                                "compute", "activations", "fits");
  for (size_t i = 0; i < plans.size() && static_cast<int>(i) < shown; ++i) {
    const LayoutPlan& p = plans[i];
    text += axes_text(p.layout) + fmt::format(" {:>12} {:>12} {:>12} {:>12} {:>12}  {}\n", human_bytes(p.bytes),
                                              human_bytes(p.lines[0].bytes), human_bytes(p.lines[1].bytes),
                                              human_bytes(p.lines[2].bytes), human_bytes(p.lines[3].bytes),
                                              device_memory == 0 ? "-" : p.bytes <= device_memory ? "yes" : "no");
  }
  return text + fmt::format("\nsmallest, stage {} of {}:\n{}", plans[0].stage, plans[0].layout.pp,
                            lines_text(plans[0].lines));
}

std::string predictions_text(const std::vector<Prediction>& found, int64_t devices, const Hardware& h, int shown) {
  std::string text = axes_title() + fmt::format(" {:>11} {:>4} {:>9} {:>8} {:>6} {:>6} {:>7}  {}\n", "per device", "fits", "step",
                                                "TFLOP/s", "MFU", "HFU", "bubble", "limit");
  for (size_t i = 0; i < found.size() && static_cast<int>(i) < shown; ++i) {
    const Prediction& p = found[i];
    text += axes_text(p.memory.layout) +
            fmt::format(" {:>11} {:>4} {:>7.3f} s {:>8.1f} {:>4.1f} % {:>4.1f} % {:>5.1f} %  {}\n", human_bytes(p.memory.bytes),
                        p.fits ? "yes" : "no", p.seconds, p.flops_per_device / 1e12, 100 * p.mfu, 100 * p.hfu, 100 * p.bubble,
                        p.limit);
  }
  return text + first_text(found[0], devices, h);
}

}  // namespace llmctl
