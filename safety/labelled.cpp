// SPDX-License-Identifier: Apache-2.0
#include "safety/labelled.h"

#include <algorithm>

#include "core/base/json.h"
#include "data/text/utf8.h"

namespace llmctl {
namespace {

int index_of(const std::vector<std::string>& names, const std::string& name) {
  const auto it = std::find(names.begin(), names.end(), name);
  return it == names.end() ? -1 : static_cast<int>(it - names.begin());
}

void add_item(LabelledTexts& out, std::string text, const std::vector<std::string>& labels,
              const std::string& who) {
  check(is_utf8(text), Code::input, "[moderate] ", who, ": the text is not valid UTF-8, convert it first");
  LabelledText item{std::move(text), {}};
  for (const std::string& label : labels) {
    const int i = index_of(out.categories, label);
    check(i >= 0, Code::input, "[moderate] ", who, ": unknown category \"", label,
          "\", list it under \"categories\" in the config or correct it");
    item.labels.push_back(i);
  }
  std::sort(item.labels.begin(), item.labels.end());
  item.labels.erase(std::unique(item.labels.begin(), item.labels.end()), item.labels.end());
  out.items.push_back(std::move(item));
}

void read_jsonl(const fs::path& path, const LabelledSource& source, LabelledTexts& out) {
  ByteReader reader(path);
  std::string line;
  for (int64_t number = 1; reader.line(line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const std::string who = path.string() + ":" + std::to_string(number);
    const Json object = parse_json(line, who);
    check(object.is_object() && object.contains(source.text_field) && object[source.text_field].is_string(),
          Code::input, "[moderate] ", who, ": no string field \"", source.text_field, "\"");
    check(object.contains(source.labels_field) && object[source.labels_field].is_array(), Code::input,
          "[moderate] ", who, ": no array field \"", source.labels_field, "\" ([] means safe)");
    std::vector<std::string> labels;
    for (const Json& label : object[source.labels_field]) {
      check(label.is_string(), Code::input, "[moderate] ", who, ": a label in \"", source.labels_field,
            "\" is not a string");
      labels.push_back(label.get<std::string>());
    }
    add_item(out, object[source.text_field].get<std::string>(), labels, who);
  }
}

// One record of a CSV file (RFC 4180: quoted fields hold commas, newlines and doubled quotes);
// false at the end.
bool csv_record(const std::string& bytes, size_t& at, std::vector<std::string>& fields) {
  fields.clear();
  if (at >= bytes.size()) return false;
  std::string field;
  bool quoted = false;
  for (; at < bytes.size(); ++at) {
    const char c = bytes[at];
    if (quoted) {
      if (c != '"') {
        field.push_back(c);
      } else if (at + 1 < bytes.size() && bytes[at + 1] == '"') {
        field.push_back(bytes[++at]);
      } else {
        quoted = false;
      }
    } else if (c == '"' && field.empty()) {
      quoted = true;
    } else if (c == ',') {
      fields.push_back(std::move(field));
      field.clear();
    } else if (c == '\n') {
      ++at;
      break;
    } else if (c != '\r') {
      field.push_back(c);
    }
  }
  fields.push_back(std::move(field));
  return true;
}

void read_davidson(const fs::path& path, LabelledTexts& out) {
  const std::string bytes = ByteReader(path).rest();
  std::vector<std::string> fields;
  size_t at = 0;
  check(csv_record(bytes, at, fields), Code::input, "[moderate] ", path.string(), ": the file is empty");
  const int label = index_of(fields, "class"), text = index_of(fields, "tweet");
  check(label >= 0 && text >= 0, Code::input, "[moderate] ", path.string(),
        ": no columns \"class\" and \"tweet\", this is not Davidson's labeled_data.csv");
  const size_t columns = fields.size();
  for (int64_t record = 2; csv_record(bytes, at, fields); ++record) {
    const std::string who = path.string() + ": record " + std::to_string(record);
    check(fields.size() == columns, Code::input, "[moderate] ", who, ": ", fields.size(),
          " fields, expected ", columns);
    const std::string& c = fields[static_cast<size_t>(label)];
    check(c == "0" || c == "1" || c == "2", Code::input, "[moderate] ", who, ": class \"", c,
          "\" is not 0, 1 or 2");
    std::vector<std::string> labels;
    if (c == "0") labels = {"hate"};
    if (c == "1") labels = {"offensive"};
    add_item(out, fields[static_cast<size_t>(text)], labels, who);
  }
}

// Without a list from the config, categories that no text has are dropped.
void drop_unused_categories(LabelledTexts& data) {
  std::vector<int> place(data.categories.size(), -1);
  for (const LabelledText& item : data.items)
    for (int label : item.labels) place[static_cast<size_t>(label)] = 0;
  std::vector<std::string> used;
  for (size_t i = 0; i < place.size(); ++i) {
    if (place[i] < 0) continue;
    place[i] = static_cast<int>(used.size());
    used.push_back(data.categories[i]);
  }
  for (LabelledText& item : data.items)
    for (int& label : item.labels) label = place[static_cast<size_t>(label)];
  data.categories = std::move(used);
}

}  // namespace

const std::vector<std::string>& openai_categories() {
  static const std::vector<std::string> names = {"harassment",
                                                 "harassment/threatening",
                                                 "hate",
                                                 "hate/threatening",
                                                 "illicit",
                                                 "illicit/violent",
                                                 "self-harm",
                                                 "self-harm/intent",
                                                 "self-harm/instructions",
                                                 "sexual",
                                                 "sexual/minors",
                                                 "violence",
                                                 "violence/graphic"};
  return names;
}

LabelledTexts read_labelled(const LabelledSource& source) {
  const bool davidson = source.format == "davidson";
  check(davidson || source.format == "jsonl", Code::input, "[moderate] format is \"", source.format,
        "\": use jsonl or davidson");
  LabelledTexts out;
  out.categories = source.categories;
  if (out.categories.empty())
    out.categories = davidson ? std::vector<std::string>{"hate", "offensive"} : openai_categories();
  for (size_t i = 0; i < out.categories.size(); ++i)
    check(!out.categories[i].empty() && index_of(out.categories, out.categories[i]) == static_cast<int>(i),
          Code::input, "[moderate] categories[", i, "] \"", out.categories[i], "\" is empty or listed twice");
  for (const fs::path& path : expand_inputs(source.inputs)) {
    const size_t before = out.items.size();
    if (davidson)
      read_davidson(path, out);
    else
      read_jsonl(path, source, out);
    check(out.items.size() > before, Code::input, "[moderate] ", path.string(), ": no labelled texts in it");
  }
  if (source.categories.empty()) drop_unused_categories(out);
  check(!out.categories.empty(), Code::input,
        "[moderate] every text is safe: nothing to learn, add labelled ones");
  return out;
}

}  // namespace llmctl
