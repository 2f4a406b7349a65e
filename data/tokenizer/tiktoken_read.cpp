// SPDX-License-Identifier: Apache-2.0
// .tiktoken files: a line of base 64 and rank per token, and neither pattern nor special tokens. These
// come from a table of the published files (openai/tiktoken, tiktoken_ext/openai_public.py), found by the
// digest of the content or else by the file's name. Text is cut, a piece that is a token is taken whole,
// and what is joined first is the pair whose result has the lowest rank, leftmost among equals.
// GPT-2's original pair of files is read here too: it has ranks of merges instead.
#include <algorithm>
#include <charconv>

#include "core/base/digest.h"
#include "data/text/base64.h"
#include "data/tokenizer/bpe.h"
#include "data/tokenizer/byte_level.h"
#include "data/tokenizer/split_regex.h"
#include "data/tokenizer/tokenizer_source.h"

namespace llmctl {

namespace {

struct Published {
  const char *name, *digest;  // XXH3-128 of the file; "" when only its name is known
  const char* pattern;        // of named_pattern(), or the text itself
  std::vector<std::pair<const char*, int64_t>> specials;
};

// cl100k as tiktoken has it, in words that Oniguruma and PCRE2 read alike.
constexpr const char* kCl100k =
    "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
    "\\s+\\z|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+";

const std::vector<Published>& published() {
  static const std::vector<Published> table = {
      {"cl100k_base",
       "7cdb781bb5d59657aa5d7bf38900641a",
       kCl100k,
       {{"<|endoftext|>", 100257},
        {"<|fim_prefix|>", 100258},
        {"<|fim_middle|>", 100259},
        {"<|fim_suffix|>", 100260},
        {"<|endofprompt|>", 100276}}},
      {"o200k_base",
       "dee5d4ced09a2db672a095e82ca109d6",
       "o200k",
       {{"<|endoftext|>", 199999}, {"<|endofprompt|>", 200018}}},
      {"p50k_base", "1bfe2eadd49e9688f2d3fa62565e6e17", "gpt2", {{"<|endoftext|>", 50256}}},
      {"p50k_edit",
       "",
       "gpt2",
       {{"<|endoftext|>", 50256},
        {"<|fim_prefix|>", 50281},
        {"<|fim_middle|>", 50282},
        {"<|fim_suffix|>", 50283}}},
      {"r50k_base", "aa5ef69a716d8a563cb2fbe95939bd2d", "gpt2", {{"<|endoftext|>", 50256}}},
      {"gpt2", "", "gpt2", {{"<|endoftext|>", 50256}}},
  };
  return table;
}

// A name decides before the digest: p50k_edit has the content of p50k_base.
const Published& published_as(std::string_view content, const std::string& name) {
  for (const Published& p : published())
    if (p.name == name) return p;
  const std::string digest = digest_of(content).hex();
  for (const Published& p : published())
    if (p.digest == digest) return p;
  std::string names;
  for (const Published& p : published()) names += (names.empty() ? "" : ", ") + std::string(p.name);
  throw Error(Code::unsupported,
              "[tokenizer] '" + name +
                  ".tiktoken' is not a published file, and says neither its pattern nor its "
                  "special tokens; name it after the one it is like (" +
                  names + "), or give a tokenizer.json");
}

// Tokens by rank; "" where there is a hole.
std::vector<std::string> tokens_of(std::string_view content) {
  constexpr size_t kMost = size_t{1} << 24;
  std::vector<std::string> tokens;
  size_t line = 0;
  while (!content.empty()) {
    const size_t end = std::min(content.find('\n'), content.size());
    std::string_view text = content.substr(0, end);
    content.remove_prefix(std::min(end + 1, content.size()));
    ++line;
    if (text.ends_with('\r')) text.remove_suffix(1);
    if (text.empty()) continue;
    const size_t space = std::min(text.find(' '), text.size());
    const auto bytes = from_base64(text.substr(0, space));
    size_t rank = 0;
    const char* last = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data() + std::min(space + 1, text.size()), last, rank);
    check(bytes && !bytes->empty() && error == std::errc() && rest == last, Code::input, "[tokenizer] line ",
          line, " of the .tiktoken file is not a token in base 64 and its rank");
    check(rank < std::min(kMost, 2 * line + 4096), Code::input, "[tokenizer] rank ", rank, " in line ", line,
          " of the .tiktoken file leaves too many holes");
    if (rank >= tokens.size()) tokens.resize(rank + 1);
    check(tokens[rank].empty(), Code::input, "[tokenizer] rank ", rank, " is given twice");
    tokens[rank] = *bytes;
  }
  check(!tokens.empty(), Code::input, "[tokenizer] the .tiktoken file holds no tokens");
  return tokens;
}

Json config_json(const Json& added) {
  Json config = {{"tokenizer_class", "PreTrainedTokenizerFast"}, {"clean_up_tokenization_spaces", false}};
  config["eos_token"] = added[0]["content"];
  return config;
}

}  // namespace

TokenizerSource source_of_tiktoken(std::string_view content, const std::string& name) {
  const Published& file = published_as(content, name);
  const std::vector<std::string> tokens = tokens_of(content);
  StringIds ranks;
  Json vocab = Json::object();
  std::vector<std::vector<std::string>> results;
  for (size_t rank = 0; rank < tokens.size(); ++rank) {
    if (tokens[rank].empty()) continue;
    const bool fresh = ranks.add(tokens[rank], static_cast<int32_t>(rank));
    check(fresh, Code::input, "[tokenizer] rank ", rank, " repeats a token of the .tiktoken file");
    append(vocab, spell_bytes(tokens[rank]), rank);
    results.push_back({tokens[rank]});
  }
  RankedMerges ranked = merges_of(results, ranks, false, spell_bytes);
  TokenizerSource source{tokenizer_skeleton(), {}, std::move(ranked.ids)};
  Json& json = source.tokenizer;
  for (const auto& [content_of, id] : file.specials) {
    json["added_tokens"].push_back(added_token_json(id, content_of, true));
    append(vocab, content_of, id);  // where Hugging Face would give added tokens the next free ids
  }
  const std::string pattern = file.pattern;
  json["pre_tokenizer"] = pattern == "gpt2"    ? byte_level_json(true)
                          : pattern == "o200k" ? byte_level_splits({named_pattern(pattern)})
                                               : byte_level_splits({pattern});
  json["decoder"] = byte_level_json(true);
  json["model"] = bpe_model_json(false, true);
  json["model"]["vocab"] = std::move(vocab);
  json["model"]["merges"] = std::move(ranked.merges);
  source.config = config_json(json["added_tokens"]);
  source.config["llmctl"]["merges_per_rank"] = std::move(ranked.per_rank);
  return source;
}

TokenizerSource source_of_gpt2_pair(const fs::path& encoder, const fs::path& merges) {
  constexpr uint64_t kLargest = uint64_t{64} << 20;
  TokenizerSource source{tokenizer_skeleton(), {}, {}};
  Json& json = source.tokenizer;
  json["pre_tokenizer"] = byte_level_json(true);
  json["decoder"] = byte_level_json(true);
  json["model"] = bpe_model_json(false, false);
  json["model"]["vocab"] = read_json(encoder, kLargest);
  Json list = Json::array();
  ByteReader reader(merges);
  std::string line;
  while (reader.line(line, 1 << 16))
    if (!line.empty() && !line.starts_with("#version")) list.push_back(line);
  json["model"]["merges"] = std::move(list);
  const Json& vocab = json["model"]["vocab"];
  check(vocab.is_object(), Code::input, "[tokenizer] ", encoder.string(), " is not an object of tokens");
  const auto end = vocab.find("<|endoftext|>");
  if (end == vocab.end() || !end->is_number_integer()) return source;
  json["added_tokens"].push_back(added_token_json(end->get<int64_t>(), "<|endoftext|>", true));
  source.config = config_json(json["added_tokens"]);
  return source;
}

}  // namespace llmctl
