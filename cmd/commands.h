// SPDX-License-Identifier: Apache-2.0
// The verbs of llmctl. A verb is one file cmd/<verb>.cpp and one row here; its data-file tests are
// tests/cli/<verb>.test. The file declares its flags on the app it is given and says what to run:
//
//   namespace llmctl {
//   namespace {
//   struct DecodeOptions { std::string tokenizer, ids; };
//   int decode(const DecodeOptions& o, Common& common) {
//     Runtime runtime(common);                         // only if it computes
//     ...
//     print_result(common, {{"text", text}}, text);    // --json or for people
//     return 0;                                        // 1: the answer is no
//   }
//   }  // namespace
//   void add_decode(CLI::App& app, Common& common) {
//     auto o = std::make_shared<DecodeOptions>();
//     app.add_option("--tokenizer", o->tokenizer, "folder or tokenizer.json")->required();
//     app.add_option("--ids", o->ids, "ids, separated by spaces")->required();
//     examples(app, {"llmctl decode --tokenizer out/tok --ids '1 2 3'",
//                    "llmctl decode --tokenizer model --ids \"$(cat ids.txt)\" --json"});
//     on_run(app, common, [o, &common] { return decode(*o, common); });
//   }
//   }  // namespace llmctl
//
// Objects (`tokenize train`) are app.add_subcommand(...) with their own examples and on_run; end
// with app.require_subcommand(1) unless the verb also runs alone. Errors are thrown (Error) and
// caught once, in main. The flags of Common, environment variables, --config and --set are added
// to every verb by build_app; a verb with a config struct (train) uses ConfigFlags (flags.h).
#pragma once

#include "cmd/flags.h"

// row(name, one line for --help)
#define LLMCTL_COMMANDS(row)                                       \
  row(completion, "print a completion script for bash, zsh or fish") \
  row(chat, "talk to a model in the terminal") \
  row(data, "sources to shards of tokens: extract, filter, deduplicate, mix, pack") \
  row(demo, "text to served model on this machine, in minutes") \
  row(evaluate, "perplexity, bits per byte and named tasks of a model") \
  row(generate, "continue a prompt") \
  row(launch, "train on many ranks, here, on Slurm or on Kubernetes, and keep them running") \
  row(quantize, "weights in 8 or 4 bits, compressed-tensors layout") \
  row(reproduce, "replay a run and compare it step by step, bit for bit") \
  row(serve, "the HTTP server, OpenAI API") \
  row(tokenize, "train a tokenizer, encode, decode, pack") \
  row(train, "train a model into a run folder") \
  row(bench, "ours against the machine's limit") \
  row(model, "inspect, compare, convert and plan models") \
  row(moderate, "risk scores of texts, and the classifier behind them")

namespace llmctl {

#define LLMCTL_DECLARE(name, summary) void add_##name(CLI::App& app, Common& common);
LLMCTL_COMMANDS(LLMCTL_DECLARE)
#undef LLMCTL_DECLARE

// `llmctl --version`, a flag of the root.
void add_version(CLI::App& root, Common& common);

// Declares every verb and the common flags on `root`; both must outlive the parse and the run.
void build_app(CLI::App& root, Common& common);

}  // namespace llmctl
