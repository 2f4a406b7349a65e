// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer/chat.h"

#include <algorithm>

namespace llmctl {

const char* const kChatMlTemplate =
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + "
    "'<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
    "{% endif %}";

namespace {

// A Jinja template with everything that does not change its meaning taken out: white space inside
// the marks, white space outside that trim marks or transformers' trim_blocks and lstrip_blocks
// remove, and the choice of quotes, '+' or member syntax.
class NormalForm {
 public:
  explicit NormalForm(const std::string& text) : text_(text) {
    for (at_ = 0; at_ < text_.size(); ++at_) step(text_[at_], at_ + 1 < text_.size() ? text_[at_ + 1] : '\0');
    const std::pair<std::string, std::string> same[] = {{"message.role", "message['role']"},
                                                        {"message.content", "message['content']"},
                                                        {"messages[0].role", "messages[0]['role']"},
                                                        {"'+'", ""}};
    for (const auto& [from, to] : same)
      for (size_t hit; (hit = out.find(from)) != std::string::npos;) out.replace(hit, from.size(), to);
  }
  std::string out;

 private:
  void step(char c, char next) {
    if (quote_) {
      quoted(c, next);
    } else if (!inside_) {
      if (c == '{' && (next == '%' || next == '{'))
        open(next);
      else if (!(trim_ && is_space(c)))
        (out += c), trim_ = false;
    } else if (c == '\'' || c == '"') {
      quote_ = c;
      out += '\'';
    } else if (c == '-' && (next == '%' || next == '}')) {
      trim_ = true;
    } else if ((c == '%' || c == '}') && next == '}') {
      close(c);
    } else if (!is_space(c)) {
      out += c;
    }
  }
  void quoted(char c, char next) {
    if (c == '\\' && next == 'n') {
      out += '\n';
      ++at_;
    } else {
      out += c == quote_ ? '\'' : c;
      if (c == quote_) quote_ = 0;
    }
  }
  void open(char kind) {
    const bool trims = text_.compare(at_ + 2, 1, "-") == 0;
    const size_t keep = out.find_last_not_of(trims ? " \t\r\n" : " \t") + 1;
    if (trims || (kind == '%' && (keep == 0 || out[keep - 1] == '\n' || out[keep - 1] == '}')))
      out.resize(keep);
    (out += '{') += kind;
    at_ += trims ? 2 : 1;
    inside_ = true;
    trim_ = false;
  }
  void close(char kind) {
    (out += kind) += '}';
    ++at_;
    inside_ = false;
    if (kind == '%' && !trim_ && text_.compare(at_ + 1, 1, "\n") == 0) ++at_;
  }
  static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

  const std::string& text_;
  size_t at_ = 0;
  bool inside_ = false;  // of {% %} or {{ }}
  bool trim_ = false;    // white space from here on is removed
  char quote_ = 0;
};

bool eat(std::string_view& text, std::string_view start) {
  if (text.substr(0, start.size()) != start) return false;
  text.remove_prefix(start.size());
  return true;
}

struct ChatMl {
  std::string default_system;  // rendered when the first turn is not a system turn
};

// The spellings of ChatML that model folders use (transformers' documentation, Qwen1.5 and Qwen2,
// SmolLM2): an optional default for add_generation_prompt, the loop, an optional default system turn,
// the turn, the generation prompt.
std::optional<ChatMl> recognise(const std::string& spelled) {
  const std::string normal = NormalForm(spelled).out;
  std::string_view rest = normal;
  ChatMl found;
  eat(rest, "{%ifnotadd_generation_promptisdefined%}{%setadd_generation_prompt=false%}{%endif%}");
  if (!eat(rest, "{%formessageinmessages%}")) return std::nullopt;
  if (eat(rest, "{%ifloop.firstandmessages[0]['role']!='system'%}{{'<|im_start|>system\n")) {
    const size_t end = rest.find("<|im_end|>\n'}}{%endif%}");
    if (end == std::string_view::npos) return std::nullopt;
    found.default_system = rest.substr(0, end);
    rest.remove_prefix(end);
    eat(rest, "<|im_end|>\n'}}{%endif%}");
  }
  const bool turn =
      eat(rest, "{{'<|im_start|>'+message['role']+'\n'+message['content']+'<|im_end|>\n'}}{%endfor%}");
  const bool prompt = turn && eat(rest, "{%ifadd_generation_prompt%}{{'<|im_start|>assistant\n'}}{%endif%}");
  if (!prompt || !rest.empty()) return std::nullopt;
  return found;
}

ChatMl chatml_of(const Tokenizer& tokenizer) {
  const std::string text = tokenizer.chat_template();
  check(!text.empty(), Code::unsupported,
        "[chat] the tokenizer has no chat template, so it cannot hold a chat");
  const auto found = recognise(text);
  if (found) return *found;
  std::string start = text.substr(0, 60);
  std::replace_if(
      start.begin(), start.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20; }, ' ');
  throw Error(Code::unsupported, "[chat] only ChatML templates are offered; this one begins: " + start);
}

int32_t marker(const Tokenizer& tokenizer, const char* name) {
  const auto id = tokenizer.id_of(name);
  check(id && tokenizer.is_special(*id), Code::input, "[chat] the tokenizer has no special token ", name);
  return *id;
}

}  // namespace

std::vector<int32_t> chat_stop_ids(const Tokenizer& tokenizer) {
  chatml_of(tokenizer);
  return {marker(tokenizer, "<|im_end|>")};
}

std::vector<int32_t> apply_chat_template(const Tokenizer& tokenizer, const std::vector<ChatMessage>& messages,
                                         bool add_generation_prompt) {
  const ChatMl chatml = chatml_of(tokenizer);
  const int32_t start = marker(tokenizer, "<|im_start|>"), end = marker(tokenizer, "<|im_end|>");
  const EncodeOptions plain{.add_special = false, .parse_special = false};
  const std::vector<int32_t> newline = tokenizer.encode("\n", plain);
  std::vector<int32_t> ids;
  const auto put = [&](const std::string& text) {
    const std::vector<int32_t> more = tokenizer.encode(text, plain);
    ids.insert(ids.end(), more.begin(), more.end());
  };
  const auto turn = [&](const std::string& role, const std::string& content) {
    ids.push_back(start);
    put(role + "\n" + content);
    ids.push_back(end);
    ids.insert(ids.end(), newline.begin(), newline.end());
  };
  if (!chatml.default_system.empty() && (messages.empty() || messages[0].role != "system"))
    turn("system", chatml.default_system);
  for (const ChatMessage& message : messages) {
    const bool named = !message.role.empty() &&
                       message.role.find_first_not_of("abcdefghijklmnopqrstuvwxyz_") == std::string::npos;
    check(named, Code::input, "[chat] a role of ", message.role.size(), " bytes is not a word in lower case");
    turn(message.role, message.content);
  }
  if (add_generation_prompt) {
    ids.push_back(start);
    put("assistant\n");
  }
  return ids;
}

}  // namespace llmctl
