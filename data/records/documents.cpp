// SPDX-License-Identifier: Apache-2.0
#include "data/records/documents.h"

#include "core/base/json.h"

namespace llmctl {

namespace {

bool is_json_lines(const fs::path& file) {
  const fs::path plain = file.extension() == ".gz" || file.extension() == ".zst" ? file.stem() : file;
  return plain.extension() == ".jsonl";
}

const std::string& text_of(const Json& object, const std::string& key, const std::string& who) {
  const auto it = object.find(key);
  check(it != object.end() && it->is_string(), Code::input, "[documents] ", who, ": no string field \"", key,
        "\"");
  return it->get_ref<const std::string&>();
}

Document document_of(const std::string& line, const DocumentOptions& options, const std::string& who) {
  const Json json = parse_json(line, who);
  check(json.is_object(), Code::input, "[documents] ", who, ": ", json.type_name(),
        " where an object is needed");
  Document document;
  const auto messages = json.find("messages");
  if (messages == json.end() || json.contains(options.field)) {
    document.text = text_of(json, options.field, who);
    return document;
  }
  check(messages->is_array() && !messages->empty(), Code::input, "[documents] ", who,
        ": \"messages\" is no list of turns");
  for (const Json& m : *messages) {
    check(m.is_object(), Code::input, "[documents] ", who, ": a message is ", m.type_name(),
          ", not an object");
    document.messages.push_back({text_of(m, "role", who), text_of(m, "content", who)});
  }
  return document;
}

void split_text(std::string text, const std::string& separator, const std::function<void(Document&&)>& sink) {
  const auto give = [&](std::string part) {
    if (part.empty()) return;
    Document document;
    document.text = std::move(part);
    sink(std::move(document));
  };
  if (separator.empty()) return give(std::move(text));
  size_t at = 0;
  for (size_t hit; (hit = text.find(separator, at)) != std::string::npos; at = hit + separator.size())
    give(text.substr(at, hit - at));
  give(text.substr(at));
}

}  // namespace

uint64_t Document::bytes() const {
  uint64_t n = text.size();
  for (const ChatMessage& m : messages) n += m.role.size() + m.content.size();
  return n;
}

void read_documents(const fs::path& file, const DocumentOptions& options,
                    const std::function<void(Document&&)>& sink) {
  ByteReader reader(file);
  if (!is_json_lines(file)) return split_text(reader.rest(), options.split_on, sink);
  std::string line;
  for (uint64_t number = 1; reader.line(line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    sink(document_of(line, options, file.string() + ":" + std::to_string(number)));
  }
}

}  // namespace llmctl
