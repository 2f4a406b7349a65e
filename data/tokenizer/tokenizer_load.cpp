// SPDX-License-Identifier: Apache-2.0
// Files to a Tokenizer: which reader, and what lies beside the file.
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/tokenizer_source.h"

namespace llmctl {

namespace {

constexpr uint64_t kLargest = uint64_t{256} << 20;

// GPT-2's pair beside each other: NAMEencoder.json and NAMEvocab.bpe, or vocab.json and merges.txt.
fs::path merges_beside(const fs::path& file) {
  const std::string name = file.filename().string();
  for (const auto& [vocabulary, merges] :
       {std::pair("encoder.json", "vocab.bpe"), std::pair("vocab.json", "merges.txt")}) {
    if (!name.ends_with(vocabulary)) continue;
    const std::string stem = name.substr(0, name.size() - std::string(vocabulary).size());
    const fs::path beside = file.parent_path() / (stem + merges);
    if (fs::exists(beside)) return beside;
  }
  return {};
}

// The file of a folder that holds its vocabulary.
fs::path file_in(const fs::path& folder) {
  for (const char* name : {"tokenizer.json", "tokenizer.model", "encoder.json", "vocab.json"})
    if (fs::exists(folder / name)) return folder / name;
  return folder / "tokenizer.json";  // whose absence is what the error says
}

// Llama 3 ships a .tiktoken file under the name tokenizer.model.
bool looks_like_tiktoken(std::string_view content) {
  const std::string_view line = content.substr(0, std::min(content.find('\n'), size_t{100}));
  return line.size() >= 4 && line.find_first_not_of(
                                 "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                 "0123456789+/= ") == std::string_view::npos;
}

TokenizerSource source_of(const fs::path& file) {
  const fs::path ending = file.extension();
  if (ending == ".gguf") return source_of_gguf(file);
  if (ending == ".tiktoken") return source_of_tiktoken(read_file(file, kLargest), file.stem().string());
  if (ending == ".model") {
    const std::string content = read_file(file, kLargest);
    return looks_like_tiktoken(content) ? source_of_tiktoken(content, file.stem().string())
                                        : source_of_sentencepiece(content);
  }
  const fs::path merges = merges_beside(file);
  return merges.empty() ? TokenizerSource{read_json(file, kLargest), {}, {}} : source_of_gpt2_pair(file, merges);
}

// tokenizer_config.json and chat_template.jinja in the folder say more than the file itself.
Json config_beside(const fs::path& file, Json config) {
  const fs::path beside = file.parent_path() / "tokenizer_config.json";
  if (fs::exists(beside)) {
    const Json more = read_json(beside, kLargest);
    if (config.is_object() && more.is_object())
      config.update(more);
    else
      config = more;
  }
  const fs::path chat = file.parent_path() / "chat_template.jinja";
  if (fs::exists(chat) && (config.is_null() || config.is_object()))
    config["chat_template"] = read_file(chat, 1 << 20);
  return config;
}

}  // namespace

Tokenizer Tokenizer::load(const fs::path& path) {
  const fs::path file = fs::is_directory(path) ? file_in(path) : path;
  try {
    TokenizerSource source = source_of(file);
    const bool folder_form = file.extension() == ".json" || file.filename() == "tokenizer.model";
    if (folder_form) source.config = config_beside(file, std::move(source.config));
    return from_source(source);
  } catch (const Error& e) {
    const std::string text = e.what();
    throw text.find(file.string()) != std::string::npos ? e
                                                        : Error(e.code, text + " (in " + file.string() + ")");
  }
}

}  // namespace llmctl
