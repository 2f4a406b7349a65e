// SPDX-License-Identifier: Apache-2.0
// `llmctl data`: sources to shards of tokens, by one config, and where each of them came from.
#include <fmt/format.h>

#include "cmd/build_id.h"
#include "cmd/commands.h"
#include "core/base/each_index.h"
#include "data/pipeline/report.h"
#include "data/pipeline/run.h"
#include "data/pipeline/trace.h"
#include "data/quality/classifier.h"
#include "data/records/documents.h"

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

// ---------------------------------------------------------------- train-scorer

struct ScorerConfig {
  std::vector<std::string> good, bad, held_out_good, held_out_bad;
  std::string field = "text", output;
  ClassifierOptions classifier;
  template <class V>
  void fields(V& v) {
    v("good", good, "documents to look for, JSON lines");
    v("bad", bad, "documents of the crawl, JSON lines");
    v("held_out_good", held_out_good, "not trained on: for the area under the ROC curve");
    v("held_out_bad", held_out_bad, "not trained on");
    v("field", field, "text field of JSON lines");
    v("output", output, "file of the classifier, .safetensors");
    v("buckets_log2", classifier.buckets_log2, "log2 of the weights").range(10, 26);
    v("word_ngrams", classifier.word_ngrams, "n-grams of words up to this length").range(1, 5);
    v("min_chars", classifier.min_chars, "shortest n-gram of characters").range(1, 10);
    v("max_chars", classifier.max_chars, "longest; 0: none").range(0, 10);
    v("epochs", classifier.epochs, "times each document is seen").range(1, 1000);
    v("batch", classifier.batch, "documents that see the same weights").range(1, 65536);
    v("learning_rate", classifier.learning_rate, "of AdaGrad").range(0, 1e3);
    v("seed", classifier.seed, "of the order of documents");
    v("max_features", classifier.max_features, "of one document, from its start").range(1, 1e9);
  }
};
struct ScorerOptions {
  ScorerConfig config;
  std::unique_ptr<ConfigFlags> flags;
  std::string file;
  bool force = false;
};

std::vector<LabelledText> labelled(const ScorerConfig& c, const std::vector<std::string>& good,
                                   const std::vector<std::string>& bad) {
  std::vector<LabelledText> out;
  for (const bool is_good : {true, false}) {
    const std::vector<std::string>& inputs = is_good ? good : bad;
    if (inputs.empty()) continue;
    for (const fs::path& file : expand_inputs(inputs))
      read_documents(file, {.field = c.field}, [&](Document&& d) {
        out.push_back({std::move(d.text), is_good});
      });
  }
  return out;
}

int train_scorer(ScorerOptions& o, Common& common) {
  o.flags->resolve(o.file);
  const ScorerConfig& c = o.config;
  check(!c.output.empty(), Code::usage,
        "[data] name the classifier's file: \"output\" in the config, or --output");
  check(!c.good.empty() && !c.bad.empty(), Code::input,
        "[data] a scorer needs \"good\" and \"bad\" documents");
  check(o.force || !fs::exists(c.output), Code::usage, "[data] ", c.output,
        ": exists already; give --force to replace it");
  Runtime runtime(common);
  const std::vector<LabelledText> documents = labelled(c, c.good, c.bad);
  const Classifier classifier = Classifier::train(documents, c.classifier, runtime.exec);
  classifier.save(c.output, o.force);
  Json result = {{"documents", documents.size()},
                 {"digest", classifier.digest()},
                 {"auroc", nullptr},
                 {"output", c.output}};
  const std::vector<LabelledText> held_out = labelled(c, c.held_out_good, c.held_out_bad);
  if (!held_out.empty()) {
    std::vector<double> scores(held_out.size());
    std::vector<uint8_t> good;
    for (const LabelledText& d : held_out) good.push_back(d.good);
    for_each_index(runtime.exec, static_cast<int64_t>(scores.size()), [&](int64_t i) {
      scores[static_cast<size_t>(i)] = classifier.score(held_out[static_cast<size_t>(i)].text);
    });
    result["auroc"] = auroc(scores, good);
  }
  std::string text = fmt::format("{}: from {} documents", c.output, documents.size());
  if (!result["auroc"].is_null())
    text += fmt::format(", area under the ROC curve {:.4f} on {} held out", result["auroc"].get<double>(),
                        held_out.size());
  print_result(common, result, text);
  return 0;
}

void declare_train_scorer(CLI::App& verb, Common& common) {
  CLI::App& app = *verb.add_subcommand("train-scorer", "the quality classifier that data run scores with");
  auto o = std::make_shared<ScorerOptions>();
  app.add_option("CONFIG", o->file, "JSON with comments");
  app.add_flag("--force", o->force, "replace the output");
  o->flags = std::make_unique<ConfigFlags>(app, common, fields_of(o->config));
  examples(app,
           {"llmctl data train-scorer scorer.json",
            "llmctl data train-scorer --good wiki.jsonl --bad crawl.jsonl --output quality.safetensors"});
  on_run(app, common, [o, &common] { return train_scorer(*o, common); });
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
  declare_train_scorer(app, common);
  app.require_subcommand(1);
}

}  // namespace llmctl
