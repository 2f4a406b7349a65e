// SPDX-License-Identifier: Apache-2.0
// `llmctl data`: sources to shards of tokens, by one config, and where each of them came from.
#include <fmt/format.h>

#include "cmd/build_id.h"
#include "cmd/commands.h"
#include "data/pipeline/run.h"

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
  std::string text = fmt::format("{}: {} documents in, {} out, digest {}", o.config.output, r.documents_in, r.documents_out, r.digest);
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

}  // namespace

void add_data(CLI::App& app, Common& common) {
  declare_run(app, common);
  app.require_subcommand(1);
}

}  // namespace llmctl
