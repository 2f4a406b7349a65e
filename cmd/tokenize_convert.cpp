// SPDX-License-Identifier: Apache-2.0
// `llmctl tokenize convert`: any vocabulary that is read, as a Hugging Face folder.
#include <fmt/format.h>

#include "cmd/commands.h"
#include "cmd/tokenize.h"
#include "data/tokenizer/tokenizer.h"

namespace llmctl {
namespace {

struct ConvertFlags {
  std::string tokenizer, output;
  bool force = false;
};

int convert(const ConvertFlags& o, Common& common) {
  OutputFolder folder(o.output, o.force);
  const Tokenizer tokenizer = Tokenizer::load(o.tokenizer);
  tokenizer.save(folder.path());
  folder.commit();
  print_result(common,
               {{"vocab_size", tokenizer.vocab_size()}, {"digest", tokenizer.digest()}, {"output", o.output}},
               fmt::format("{}: {} tokens, digest {}", o.output, tokenizer.vocab_size(), tokenizer.digest()));
  return 0;
}

}  // namespace

void declare_tokenize_convert(CLI::App& verb, Common& common) {
  CLI::App& app = *verb.add_subcommand("convert", "any vocabulary to tokenizer.json");
  auto o = std::make_shared<ConvertFlags>();
  app.add_option("tokenizer", o->tokenizer,
                 "folder, tokenizer.json, .tiktoken, sentencepiece's .model, .gguf, or GPT-2's encoder.json")
      ->required();
  app.add_option("--output", o->output, "folder to make")->required();
  app.add_flag("--force", o->force, "replace the output");
  examples(app, {"llmctl tokenize convert cl100k_base.tiktoken --output cl100k",
                 "llmctl tokenize convert model.gguf --output tok --json"});
  on_run(app, common, [o, &common] { return convert(*o, common); });
}

}  // namespace llmctl
