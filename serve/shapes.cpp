// SPDX-License-Identifier: Apache-2.0
#include "serve/shapes.h"

#include <algorithm>
#include <cstdio>

#include "serve/body.h"

namespace llmctl::serve {
namespace {

bool is_utf8(const std::string& bytes) {
  try {
    (void)Json(bytes).dump();
    return true;
  } catch (const Json::exception&) {
    return false;
  }
}

// A token as text; one that is only part of a code point as OpenAI writes it, "bytes:\xe2\x80".
std::string name_of(const Tokenizer& tokenizer, int32_t id) {
  const std::string bytes = tokenizer.is_special(id) ? tokenizer.token_of(id) : tokenizer.piece(id);
  if (is_utf8(bytes)) return bytes;
  std::string out = "bytes:";
  for (const char c : bytes) {
    char hex[8];
    std::snprintf(hex, sizeof hex, "\\x%02x", static_cast<unsigned char>(c));
    out += hex;
  }
  return out;
}

// JSON has no infinity; OpenAI sends -9999 for "never".
double finite(float logprob) {
  return std::max(static_cast<double>(logprob), -9999.0);
}

Json chat_entry(const Tokenizer& tokenizer, int32_t id, float logprob) {
  const std::string bytes = tokenizer.is_special(id) ? tokenizer.token_of(id) : tokenizer.piece(id);
  Json list = Json::array();
  for (const char c : bytes) list.push_back(static_cast<unsigned char>(c));
  return {{"token", name_of(tokenizer, id)}, {"logprob", finite(logprob)}, {"bytes", list}};
}

Json chat_logprobs(const Tokenizer& tokenizer, const std::vector<ShownToken>& tokens) {
  Json content = Json::array();
  for (const auto& shown : tokens) {
    if (shown.hidden) continue;
    Json entry = chat_entry(tokenizer, shown.token.id, shown.token.logprob);
    Json top = Json::array();
    for (const auto& [id, logprob] : shown.token.top) top.push_back(chat_entry(tokenizer, id, logprob));
    entry["top_logprobs"] = std::move(top);
    content.push_back(std::move(entry));
  }
  return {{"content", content}, {"refusal", nullptr}};
}

Json completion_logprobs(const Tokenizer& tokenizer, const std::vector<ShownToken>& tokens) {
  Json names = Json::array(), values = Json::array(), tops = Json::array(), offsets = Json::array();
  for (const auto& shown : tokens) {
    if (shown.hidden) continue;
    const std::string name = name_of(tokenizer, shown.token.id);
    names.push_back(name);
    values.push_back(shown.first ? Json(nullptr) : Json(finite(shown.token.logprob)));
    Json top = Json::object();
    for (const auto& [id, logprob] : shown.token.top) top[name_of(tokenizer, id)] = finite(logprob);
    if (!shown.token.top.empty()) top[name] = finite(shown.token.logprob);
    tops.push_back(shown.first ? Json(nullptr) : std::move(top));
    offsets.push_back(shown.offset);
  }
  return {{"tokens", names}, {"token_logprobs", values}, {"top_logprobs", tops}, {"text_offset", offsets}};
}

void add_common(Json& out, const ReplyHead& head, const Tokenizer& tokenizer, const ChoiceShape& c) {
  if (!c.logprobs)
    out["logprobs"] = nullptr;
  else
    out["logprobs"] =
        head.chat ? chat_logprobs(tokenizer, c.tokens) : completion_logprobs(tokenizer, c.tokens);
  out["finish_reason"] = c.finish.empty() ? Json(nullptr) : Json(c.finish);
  if (!c.token_ids) return;
  Json ids = Json::array();
  for (const auto& shown : c.tokens)
    if (!shown.token.from_prompt) ids.push_back(shown.token.id);
  out["token_ids"] = std::move(ids);
  if (!c.prompt_ids.empty()) out["prompt_token_ids"] = c.prompt_ids;
}

}  // namespace

Json Usage::json() const {
  return {
      {"prompt_tokens", prompt}, {"completion_tokens", completion}, {"total_tokens", prompt + completion}};
}

Json reply_json(const ReplyHead& head, bool chunk) {
  const char* object = !head.chat ? "text_completion" : chunk ? "chat.completion.chunk" : "chat.completion";
  return {{"id", head.id},
          {"object", object},
          {"created", head.created},
          {"model", head.model},
          {"system_fingerprint", head.fingerprint.empty() ? Json(nullptr) : Json(head.fingerprint)},
          {"choices", Json::array()}};
}

Json whole_choice(const ReplyHead& head, const Tokenizer& tokenizer, const ChoiceShape& c) {
  Json out = {{"index", c.index}};
  if (head.chat)
    out["message"] = {{"role", "assistant"}, {"content", c.text}, {"refusal", nullptr}};
  else
    out["text"] = c.text;
  add_common(out, head, tokenizer, c);
  return out;
}

Json chunk_choice(const ReplyHead& head, const Tokenizer& tokenizer, const ChoiceShape& c) {
  Json out = {{"index", c.index}};
  if (head.chat) {
    Json delta = Json::object();
    if (c.role) delta["role"] = "assistant";
    if (c.role || !c.text.empty()) delta["content"] = c.text;
    out["delta"] = std::move(delta);
  } else {
    out["text"] = c.text;
  }
  ChoiceShape shown = c;
  shown.logprobs = c.logprobs && !c.tokens.empty();
  add_common(out, head, tokenizer, shown);
  return out;
}

std::string event_of(const Json& json) {
  return "data: " + to_text(json) + "\n\n";
}

}  // namespace llmctl::serve
