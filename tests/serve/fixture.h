// SPDX-License-Identifier: Apache-2.0
// A running server around the fake engine, a byte tokenizer with ChatML, and a guard that flags
// one word.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "data/tokenizer/chat.h"
#include "serve/server.h"
#include "tests/serve/fake_engine.h"
#include "tests/serve/raw_client.h"

namespace llmctl::test {

constexpr int32_t kImStart = 256, kImEnd = 257, kEndOfText = 258;

// 256 bytes as GPT-2 spells them, id = byte, then the specials.
inline Tokenizer byte_tokenizer() {
  const auto spelled = [](int code_point) {
    std::string out;
    if (code_point < 0x80) return std::string(1, static_cast<char>(code_point));
    out += static_cast<char>(0xC0 | (code_point >> 6));
    out += static_cast<char>(0x80 | (code_point & 0x3F));
    return out;
  };
  Json vocab = Json::object();
  int next = 256;
  for (int b = 0; b < 256; ++b) {
    const bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
    vocab[spelled(printable ? b : next++)] = b;
  }
  Json added = Json::array();
  const char* names[] = {"<|im_start|>", "<|im_end|>", "<|endoftext|>"};
  for (int i = 0; i < 3; ++i)
    added.push_back({{"id", 256 + i},
                     {"content", names[i]},
                     {"special", true},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false}});
  const Json byte_level = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", false}};
  const Json model = {{"type", "BPE"},
                      {"dropout", nullptr},
                      {"unk_token", nullptr},
                      {"continuing_subword_prefix", nullptr},
                      {"end_of_word_suffix", nullptr},
                      {"fuse_unk", false},
                      {"byte_fallback", false},
                      {"vocab", vocab},
                      {"merges", Json::array()}};
  const Json tokenizer = {{"version", "1.0"},          {"truncation", nullptr}, {"padding", nullptr},
                          {"added_tokens", added},     {"normalizer", nullptr}, {"pre_tokenizer", byte_level},
                          {"post_processor", nullptr}, {"decoder", byte_level}, {"model", model}};
  const Json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                       {"eos_token", "<|im_end|>"},
                       {"chat_template", kChatMlTemplate}};
  return Tokenizer::from_json(Json::parse(tokenizer.dump()), config);
}

struct WordGuard final : serve::Guard {
  std::string model() const override { return "word-guard"; }
  serve::ModerationResult check(std::string_view text) const override {
    const bool bad = text.find("attack") != std::string_view::npos;
    return {{{"violence", bad ? 0.97 : 0.01, bad}}, bad};
  }
};

struct Served {
  explicit Served(FakeEngine::Options engine_options = {}, serve::ServerOptions options = {},
                  bool guarded = true)
      : engine(std::make_shared<FakeEngine>(engine_options)) {
    options.http.host = "127.0.0.1";
    options.http.port = 0;
    options.version = "test";
    server = std::make_unique<serve::Server>(options);
    static const auto tokenizer = std::make_shared<const Tokenizer>(byte_tokenizer());
    std::shared_ptr<const serve::Guard> guard;
    if (guarded) guard = std::make_shared<WordGuard>();
    server->ready({{"org/tiny:1", engine, tokenizer, "fp_test", 1700000000}}, guard);
  }
  int port() const { return server->port(); }
  bool healthy() const { return Client(port()).get("/health").status == 200; }

  std::shared_ptr<FakeEngine> engine;
  std::unique_ptr<serve::Server> server;
};

// The JSON events of a stream, and whether it ended with [DONE].
struct Events {
  std::vector<Json> json;
  bool done = false;
};
inline Events events_of(const std::string& body) {
  Events events;
  for (size_t at = 0; at < body.size();) {
    const size_t end = body.find("\n\n", at);
    if (end == std::string::npos || body.compare(at, 6, "data: ") != 0) throw std::runtime_error("bad event");
    const std::string data = body.substr(at + 6, end - at - 6);
    if (data == "[DONE]")
      events.done = true;
    else
      events.json.push_back(Json::parse(data));
    at = end + 2;
  }
  return events;
}

inline Json chat_body(const std::string& text, int max_tokens = 8) {
  return {{"model", "org/tiny:1"},
          {"messages", Json::array({{{"role", "user"}, {"content", text}}})},
          {"max_tokens", max_tokens}};
}

}  // namespace llmctl::test
