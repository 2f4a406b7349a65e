// SPDX-License-Identifier: Apache-2.0
// `llmctl data`: sources to shards of tokens, by one config, and where each of them came from.
#include <fmt/format.h>

#include "cmd/build_id.h"
#include "cmd/commands.h"
#include "data/pipeline/report.h"
#include "data/pipeline/run.h"
#include "data/pipeline/trace.h"

namespace llmctl {
namespace {

struct RunOptions {
  PipelineConfig config;
  std::unique_ptr<ConfigFlags> flags;
  std::string file;
};

// A preset is what the config begins with: it is read to know its name, and again over the preset.
void resolve(RunOptions& o) {
  o.flags->resolve(o.file);
  if (o.config.preset.empty()) return;
  o.config = preset_config(o.config.preset);
  o.flags->resolve(o.file);
}

std::string rows_of(const std::map<std::string, uint64_t>& counts) {
  std::string text;
  for (const auto& [name, n] : counts) text += fmt::format("\n  {:<40} {}", name, n);
  return text;
}

int run(RunOptions& o, Common& common) {
  resolve(o);
  Runtime runtime(common);
  const PipelineResult r = run_pipeline(o.config, runtime.exec, common.log, kVersion);
  std::string text = fmt::format("{}: {} documents in, {} out, digest {}", o.config.output, r.documents_in,
                                 r.documents_out, r.digest);
  if (!r.dropped.empty()) text += "\ndropped" + rows_of(r.dropped);
  if (!r.skipped.empty()) text += "\nno documents" + rows_of(r.skipped);
  print_result(common, r.json(), text);
  return 0;
}

void declare_run(CLI::App& verb, Common& common) {
  CLI::App& app = *verb.add_subcommand("run", "ingest, extract, filter, deduplicate, score, mix and pack");
  auto o = std::make_shared<RunOptions>();
  app.add_option("CONFIG", o->file, "config of the pipeline, JSON with comments");
  o->flags = std::make_unique<ConfigFlags>(app, common, fields_of(o->config));
  examples(app, {"llmctl data run corpus.json --output runs/corpus",
                 "llmctl data run corpus.json --preset fineweb --set dedup.minhash.threshold=0.8"});
  on_run(app, common, [o, &common] { return run(*o, common); });
}

// ---------------------------------------------------------------- report and trace

struct ReportOptions {
  std::string folder, what_if, html;
  bool force = false;
};

int report(const ReportOptions& o, Common& common) {
  if (!o.what_if.empty()) {
    const WhatIf curve = what_if(o.folder, o.what_if);
    print_result(common, curve.json(), curve.text());
    return 0;
  }
  const Json report = run_report(o.folder);
  if (!o.html.empty()) write_file(o.html, report_html(o.folder, report), o.force);
  print_result(common, report, report_text(report));
  return 0;
}

void declare_report(CLI::App& verb, Common& common) {
  CLI::App& app = *verb.add_subcommand("report", "what a run kept and dropped, by stage, rule and source");
  auto o = std::make_shared<ReportOptions>();
  app.add_option("DIR", o->folder, "folder of the run")->required();
  app.add_option("--what-if", o->what_if,
                 "a rule: what other thresholds of it would keep, from the stored columns");
  app.add_option("--html", o->html, "also write a page with the curves of all rules that dropped anything");
  app.add_flag("--force", o->force, "replace the page");
  examples(app, {"llmctl data report runs/corpus --html report.html",
                 "llmctl data report runs/corpus --what-if fineweb.dup_line_chars"});
  on_run(app, common, [o, &common] { return report(*o, common); });
}

struct TraceOptions {
  std::string shard, tokenizer;
  uint64_t offset = 0;
};

void declare_trace(CLI::App& verb, Common& common) {
  CLI::App& app =
      *verb.add_subcommand("trace", "from a token of a shard to its document, source file and bytes");
  auto o = std::make_shared<TraceOptions>();
  app.add_option("SHARD", o->shard, "a shard that data run packed")->required();
  app.add_option("OFFSET", o->offset, "number of the token in the shard, from 0")->required();
  app.add_option("--tokenizer", o->tokenizer, "when it is no longer where the run found it");
  examples(app, {"llmctl data trace runs/corpus/10-pack/shard-00000 12345",
                 "llmctl data trace runs/corpus/10-pack/shard-00000.bin 0 --json"});
  on_run(app, common, [o, &common] {
    const Json trace = trace_token(o->shard, o->offset, o->tokenizer);
    print_result(common, trace, trace_text(trace));
    return 0;
  });
}

}  // namespace

void add_data(CLI::App& app, Common& common) {
  declare_run(app, common);
  declare_report(app, common);
  declare_trace(app, common);
  app.require_subcommand(1);
}

}  // namespace llmctl
