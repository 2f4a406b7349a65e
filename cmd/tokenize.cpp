// SPDX-License-Identifier: Apache-2.0
// `llmctl tokenize train|encode|decode|pack|convert`: text to ids and back.
#include "cmd/tokenize.h"

#include <fmt/format.h>

#include <charconv>

#include "cmd/build_id.h"
#include "cmd/commands.h"
#include "core/base/clock.h"
#include "data/packed/pack.h"
#include "data/tokenizer/tokenizer.h"

namespace llmctl {
namespace {

// What Tokenizer::load reads.
constexpr const char* kTokenizerHelp =
    "model folder, tokenizer.json, .tiktoken, sentencepiece .model, .gguf, or encoder.json with vocab.bpe";

// ---------------------------------------------------------------- encode and decode

struct EncodeFlags {
  std::string tokenizer, text, input, output;
  DocumentOptions documents;
  bool has_text = false, no_special = false, parse_special = false, offsets = false, force = false;
};

Json offsets_of(const std::vector<TokenSpan>& spans) {
  Json list = Json::array();
  for (const TokenSpan& span : spans) list.push_back(Json::array({span.begin, span.end}));
  return list;
}

std::vector<int32_t> ids_of(const std::vector<TokenSpan>& spans) {
  std::vector<int32_t> ids;
  for (const TokenSpan& span : spans) ids.push_back(span.id);
  return ids;
}

std::string ids_line(const std::vector<int32_t>& ids, const std::vector<TokenSpan>& spans) {
  std::string line = "{\"ids\": [";
  for (size_t i = 0; i < ids.size(); ++i) line += (i ? ", " : "") + std::to_string(ids[i]);
  line += "]";
  if (!spans.empty()) line += ", \"offsets\": " + offsets_of(spans).dump();
  return line + "}\n";
}

int encode_text(const EncodeFlags& o, const EncodeOptions& options, Common& common) {
  const Tokenizer tokenizer = Tokenizer::load(o.tokenizer);
  std::vector<TokenSpan> spans;
  if (o.offsets) spans = tokenizer.encode_with_offsets(o.text, options);
  const std::vector<int32_t> ids = o.offsets ? ids_of(spans) : tokenizer.encode(o.text, options);
  Json result = {{"ids", ids}, {"tokens", Json::array()}};
  for (const int32_t id : ids) result["tokens"].push_back(tokenizer.token_of(id));
  std::string human = fmt::format("{}", fmt::join(ids, " "));
  if (o.offsets) {
    result["offsets"] = offsets_of(spans);
    human.clear();
    for (const TokenSpan& s : spans)
      human += fmt::format("{}{} {} {}", human.empty() ? "" : "\n", s.id, s.begin, s.end);
  }
  print_result(common, result, human);
  return 0;
}

int encode_input(const EncodeFlags& o, const EncodeOptions& options, Common& common) {
  const Clock::time_point start = Clock::now();
  const Tokenizer tokenizer = Tokenizer::load(o.tokenizer);
  const std::vector<fs::path> inputs = expand_inputs({o.input});
  std::optional<OutputFile> output;
  if (!o.output.empty()) output.emplace(o.output, o.force);
  uint64_t documents = 0, tokens = 0, bytes = 0;
  Progress progress(common.log, "encoding", "bytes", size_of(inputs));
  for (const fs::path& input : inputs) {
    read_documents(input, o.documents, [&](Document&& d) {
      stop_if_interrupted("tokenize encode");
      check(!o.offsets || d.messages.empty(), Code::unsupported,
            "[tokenize] offsets of chats are not offered, leave out --offsets");
      std::vector<TokenSpan> spans;
      if (o.offsets) spans = tokenizer.encode_with_offsets(d.text, options);
      const std::vector<int32_t> ids = o.offsets ? ids_of(spans)
                                       : d.messages.empty()
                                           ? tokenizer.encode(d.text, options)
                                           : apply_chat_template(tokenizer, d.messages, false);
      const std::string line = ids_line(ids, spans);
      if (output)
        output->write(line);
      else if (!common.json)
        print_text(line);
      ++documents;
      tokens += ids.size();
      bytes += d.bytes();
      progress.update(bytes);
    });
  }
  progress.finish();
  if (output) output->commit();
  const double seconds = seconds_since(start);
  const std::string human = fmt::format("{} documents, {} bytes, {} tokens", documents, bytes, tokens);
  if (common.json || output)
    print_result(common,
                 {{"documents", documents}, {"tokens", tokens}, {"bytes", bytes}, {"seconds", seconds}},
                 human);
  else
    common.log.line(human);
  return 0;
}

int encode(const EncodeFlags& o, Common& common) {
  check(o.has_text != !o.input.empty(), Code::usage, "[tokenize] give either --text or --input");
  const EncodeOptions options{.add_special = !o.no_special, .parse_special = o.parse_special};
  return o.has_text ? encode_text(o, options, common) : encode_input(o, options, common);
}

struct DecodeFlags {
  std::string tokenizer, ids;
  bool keep_special = false;
};

std::vector<int32_t> ids_of(const std::string& text) {
  std::vector<int32_t> ids;
  for (const char *p = text.data(), *end = p + text.size(); p < end;) {
    if (std::string_view(" ,\t\n[]").find(*p) != std::string_view::npos) {
      ++p;
      continue;
    }
    int32_t id = 0;
    const auto [next, error] = std::from_chars(p, end, id);
    check(error == std::errc() && next != p, Code::usage, "[tokenize] '", text, "' is not a list of ids");
    ids.push_back(id);
    p = next;
  }
  return ids;
}

int decode(const DecodeFlags& o, Common& common) {
  const Tokenizer tokenizer = Tokenizer::load(o.tokenizer);
  const std::string text = tokenizer.decode(ids_of(o.ids), !o.keep_special);
  if (common.json)
    print_result(common, {{"text", text}}, text);
  else
    print_text(text);  // exactly: no newline of ours
  return 0;
}

// ---------------------------------------------------------------- pack

struct PackFlags {
  std::vector<std::string> inputs;
  std::string tokenizer, output;
  PackOptions options;
  bool force = false;
};

int pack(PackFlags& o, Common& common) {
  const Clock::time_point start = Clock::now();
  OutputFolder folder(o.output, o.force);
  Runtime runtime(common);
  const Tokenizer tokenizer = Tokenizer::load(o.tokenizer);
  const std::vector<fs::path> inputs = expand_inputs(o.inputs);
  Progress progress(common.log, "packing", "bytes", size_of(inputs));
  o.options.version = kVersion;
  const PackResult r =
      pack_documents(inputs, tokenizer, folder.path(), o.options, runtime.exec, [&](const PackProgress& p) {
        stop_if_interrupted("tokenize pack");
        progress.update(p.bytes, short_count(static_cast<double>(p.tokens)) + " tokens");
      });
  progress.finish();
  folder.commit();
  print_result(common,
               {{"shards", r.shards},
                {"documents", r.documents},
                {"tokens", r.tokens},
                {"digest", r.digest},
                {"skipped", r.skipped},
                {"seconds", seconds_since(start)},
                {"output", o.output}},
               fmt::format("{}: {} documents, {} tokens in {} shards, digest {}", o.output, r.documents,
                           r.tokens, r.shards, r.digest));
  return 0;
}

// ---------------------------------------------------------------- flags

void declare_encode(CLI::App& verb, Common& common) {
  CLI::App& app = *verb.add_subcommand("encode", "text to ids");
  auto o = std::make_shared<EncodeFlags>();
  app.add_option("--tokenizer", o->tokenizer, kTokenizerHelp)->required();
  CLI::Option* text = app.add_option("--text", o->text, "the text itself");
  app.add_option("--input", o->input, "JSON lines or text: file, folder, glob or -");
  app.add_option("--output", o->output, "a line {\"ids\": [...]} per document");
  app.add_flag("--no-special", o->no_special, "leave out what the template adds (BOS, EOS)");
  app.add_flag("--parse-special", o->parse_special, "read special tokens in the text as such");
  app.add_flag("--offsets", o->offsets, "the bytes of the text behind each id, too");
  app.add_flag("--force", o->force, "replace the output");
  add_document_flags(app, o->documents);
  examples(app, {"llmctl tokenize encode --tokenizer tok --text 'Hello there'",
                 "llmctl tokenize encode --tokenizer tok --input corpus.jsonl --output ids.jsonl"});
  on_run(app, common, [o, text, &common] {
    o->has_text = text->count() > 0;
    return encode(*o, common);
  });
}

void declare_decode(CLI::App& verb, Common& common) {
  CLI::App& app = *verb.add_subcommand("decode", "ids to text");
  auto o = std::make_shared<DecodeFlags>();
  app.add_option("--tokenizer", o->tokenizer, kTokenizerHelp)->required();
  app.add_option("--ids", o->ids, "ids, separated by spaces or commas")->required();
  app.add_flag("--keep-special", o->keep_special, "spell special tokens too");
  examples(app, {"llmctl tokenize decode --tokenizer tok --ids '1 2 3'",
                 "llmctl tokenize decode --tokenizer tok --ids '[15496, 11]' --json"});
  on_run(app, common, [o, &common] { return decode(*o, common); });
}

void declare_pack(CLI::App& verb, Common& common) {
  CLI::App& app = *verb.add_subcommand("pack", "documents to token shards");
  auto o = std::make_shared<PackFlags>();
  app.add_option("input", o->inputs, "files, folders, globs or -")->required();
  app.add_option("--tokenizer", o->tokenizer, kTokenizerHelp)->required();
  app.add_option("--output", o->output, "folder to make")->required();
  app.add_option("--shard-tokens", o->options.shard_tokens, "tokens after which a shard ends")
      ->capture_default_str();
  app.add_flag("--force", o->force, "replace the output");
  add_document_flags(app, o->options.documents);
  examples(app, {"llmctl tokenize pack corpus.jsonl --tokenizer tok --output packed",
                 "llmctl tokenize pack 'texts/*.txt.gz' --tokenizer tok --output packed --json"});
  on_run(app, common, [o, &common] { return pack(*o, common); });
}

}  // namespace

void add_tokenize(CLI::App& app, Common& common) {
  declare_tokenize_train(app, common);
  declare_encode(app, common);
  declare_decode(app, common);
  declare_pack(app, common);
  declare_tokenize_convert(app, common);
  app.require_subcommand(1);
}

}  // namespace llmctl
