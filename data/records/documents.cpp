// SPDX-License-Identifier: Apache-2.0
#include "data/records/documents.h"

#include <algorithm>

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

// Text of unknown length, cut at a separator: part by part, where `cut` allows when one grows above
// `part_bytes` (0: never).
class TextCutter {
 public:
  TextCutter(ByteReader& reader, const std::string& separator, size_t part_bytes, const TextCut& cut)
      : reader_(reader), separator_(separator), part_bytes_(part_bytes), cut_(cut) {}
  void run(const std::function<void(RawDocument&&)>& sink) {
    while (read()) give_what_is_whole(sink);
    give_what_is_whole(sink);
    text_.erase(0, at_);  // a text that nothing cuts is handed on, not copied
    if (!text_.empty()) sink({std::move(text_), 0, is_first_, true});
  }

 private:
  static constexpr size_t kBlock = size_t{1} << 20;
  static constexpr uint64_t kMost = uint64_t{1} << 34;

  bool read() {
    text_.erase(0, at_);
    searched_ -= std::min(searched_, at_);
    tried_ -= std::min(tried_, at_);
    at_ = 0;
    const size_t had = text_.size();
    check(had < kMost, Code::input, "[documents] a text of more than ", kMost, " bytes");
    text_.resize(had + kBlock);
    text_.resize(had + reader_.read(text_.data() + had, kBlock));
    return text_.size() > had;
  }
  void give_what_is_whole(const std::function<void(RawDocument&&)>& sink) {
    const auto give = [&](size_t end, size_t next, bool is_last) {
      if (end > at_) sink({text_.substr(at_, end - at_), 0, is_first_, is_last});
      is_first_ = is_last;
      at_ = next;
      searched_ = std::max(searched_, next);
    };
    if (separator_.empty()) searched_ = text_.size();
    for (bool more = true; more;) {
      size_t hit = separator_.empty() ? std::string::npos : text_.find(separator_, searched_);
      more = hit != std::string::npos;
      // A separator that has only begun must not be cut.
      if (!more && !separator_.empty() && text_.size() >= separator_.size())
        searched_ = std::max(searched_, text_.size() - separator_.size() + 1);
      give_parts(std::string_view(text_).substr(0, more ? hit : searched_), give);
      if (more) give(hit, hit + separator_.size(), true);
    }
  }
  template <class Give>
  void give_parts(std::string_view known, const Give& give) {
    while (part_bytes_ > 0 && known.size() > at_ + part_bytes_) {
      const size_t end = cut_(known, std::max(at_ + part_bytes_, tried_));
      tried_ = known.size() - 1;  // a long stretch without a place to cut is looked at once
      if (end == known.size()) return;
      give(end, end, false);
      tried_ = 0;
    }
  }

  ByteReader& reader_;
  const std::string& separator_;
  const size_t part_bytes_;
  const TextCut& cut_;
  std::string text_;
  bool is_first_ = true;  // what comes next begins a document
  size_t at_ = 0, searched_ = 0, tried_ = 0;
};

}  // namespace

uint64_t Document::bytes() const {
  uint64_t n = text.size();
  for (const ChatMessage& m : messages) n += m.role.size() + m.content.size();
  return n;
}

void read_raw_documents(const fs::path& file, const DocumentOptions& options, size_t part_bytes,
                        const TextCut& cut, const std::function<void(RawDocument&&)>& sink) {
  ByteReader reader(file);
  if (!is_json_lines(file)) {
    TextCutter(reader, options.split_on, part_bytes, cut).run(sink);
    return;
  }
  std::string line;
  for (uint64_t number = 1; reader.line(line); ++number)
    if (line.find_first_not_of(" \t\r") != std::string::npos) sink({line, number});
}

Document parse_document(RawDocument&& raw, const DocumentOptions& options, const fs::path& file) {
  if (raw.line > 0) return document_of(raw.text, options, file.string() + ":" + std::to_string(raw.line));
  Document document;
  document.text = std::move(raw.text);
  return document;
}

void read_documents(const fs::path& file, const DocumentOptions& options,
                    const std::function<void(Document&&)>& sink) {
  read_raw_documents(file, options, 0, nullptr,
                     [&](RawDocument&& raw) { sink(parse_document(std::move(raw), options, file)); });
}

size_t word_start(std::string_view text, size_t at) {
  const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  for (at = std::max<size_t>(at, 1); at + 1 < text.size(); ++at)
    if (text[at] == ' ' && is_letter(text[at - 1]) && is_letter(text[at + 1])) return at;
  return text.size();
}

void read_text_parts(const fs::path& file, const DocumentOptions& options, size_t part_bytes,
                     const std::function<void(std::string&&)>& sink) {
  if (!is_json_lines(file)) {
    ByteReader reader(file);
    const TextCut cut = word_start;
    TextCutter(reader, options.split_on, part_bytes, cut).run([&](RawDocument&& raw) {
      sink(std::move(raw.text));
    });
    return;
  }
  read_documents(file, options, [&](Document&& document) {
    std::string text = std::move(document.text);
    for (const ChatMessage& m : document.messages) text += m.role + "\n" + m.content + "\n";
    size_t at = 0;
    while (text.size() > at + part_bytes) {
      const size_t cut = word_start(text, at + part_bytes);
      if (cut == text.size()) break;
      sink(text.substr(at, cut - at));
      at = cut;
    }
    if (at > 0) text.erase(0, at);
    if (!text.empty()) sink(std::move(text));
  });
}

}  // namespace llmctl
