// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer/tokenizer_files.h"

#include "data/tokenizer/bpe_train.h"
#include "data/tokenizer/byte_level.h"
#include "data/tokenizer/chat.h"

namespace llmctl {

std::vector<std::string> special_tokens(int64_t vocab_size) {
  if (vocab_size == 256) return {};
  check(vocab_size >= 259 && vocab_size <= (1 << 24), Code::usage, "[tokenizer] vocabulary size ", vocab_size,
        ": give 256 for bytes alone, or 259 (256 bytes and 3 special tokens) to 16777216");
  return {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
}

Json pre_tokenizer_json(const std::string& pattern) {
  const std::string regex = named_pattern(pattern);
  Json byte_level = {{"type", "ByteLevel"},
                     {"add_prefix_space", false},
                     {"trim_offsets", true},
                     {"use_regex", pattern == "gpt2"}};
  if (regex.empty() || pattern == "gpt2") return byte_level;
  Json split = {
      {"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", "Isolated"}, {"invert", false}};
  Json sequence = {{"type", "Sequence"}};
  sequence["pretokenizers"] = Json::array({split, byte_level});
  return sequence;
}

namespace {

Json added_token(int64_t id, const std::string& content) {
  return {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", true}};
}

Json model_json(const TrainedBpe& trained) {
  Json vocab = Json::object();
  for (size_t id = 0; id < trained.tokens.size(); ++id) append(vocab, spell_bytes(trained.tokens[id]), id);
  Json merges = Json::array();
  for (const auto& [left, right] : trained.merges)
    merges.push_back(Json::array({spell_bytes(trained.tokens[left]), spell_bytes(trained.tokens[right])}));
  Json model = {{"type", "BPE"},
                {"dropout", nullptr},
                {"unk_token", nullptr},
                {"continuing_subword_prefix", nullptr},
                {"end_of_word_suffix", nullptr},
                {"fuse_unk", false},
                {"byte_fallback", false},
                {"ignore_merges", false}};
  model["vocab"] = std::move(vocab);
  model["merges"] = std::move(merges);
  return model;
}

}  // namespace

TokenizerFiles tokenizer_files(const TrainedBpe& trained, const BpeTrainOptions& options) {
  const std::vector<std::string> specials = special_tokens(options.vocab_size);
  Json added = Json::array(), decoder_of_added = Json::object();
  for (size_t i = 0; i < specials.size(); ++i) {
    const auto id = static_cast<int64_t>(trained.tokens.size() + i);
    Json token = added_token(id, specials[i]);
    added.push_back(token);
    token.erase("id");
    decoder_of_added[std::to_string(id)] = token;
  }
  TokenizerFiles files;
  Json decoder = {
      {"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}};
  files.tokenizer = {{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}};
  files.tokenizer["added_tokens"] = added;
  files.tokenizer["normalizer"] = nullptr;
  files.tokenizer["pre_tokenizer"] = pre_tokenizer_json(options.pattern);
  files.tokenizer["post_processor"] = nullptr;
  files.tokenizer["decoder"] = std::move(decoder);
  files.tokenizer["model"] = model_json(trained);
  files.config = {{"tokenizer_class", "PreTrainedTokenizerFast"}, {"clean_up_tokenization_spaces", false}};
  files.config["model_max_length"] = 1000000000;
  if (specials.empty()) return files;
  files.config["added_tokens_decoder"] = decoder_of_added;
  files.config["eos_token"] = specials[0];
  files.config["pad_token"] = specials[0];
  files.config["additional_special_tokens"] = Json::array({specials[1], specials[2]});
  files.config["chat_template"] = kChatMlTemplate;
  return files;
}

}  // namespace llmctl
