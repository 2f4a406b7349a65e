// SPDX-License-Identifier: Apache-2.0
#include "data/dedup/lines.h"

#include <tuple>

#include "core/base/digest.h"
#include "data/dedup/external_sort.h"
#include "data/dedup/verdict_sort.h"
#include "data/dedup/word_hash.h"
#include "data/text/simplify.h"
#include "data/text/utf8.h"

namespace llmctl {
namespace {

struct PartRow {
  uint64_t hash, id;
  uint32_t priority, position;
};
struct ByHash {
  bool operator()(const PartRow& a, const PartRow& b) const {
    return std::tie(a.hash, a.priority, a.id, a.position) < std::tie(b.hash, b.priority, b.id, b.position);
  }
};
struct CopyRow {
  uint64_t id, position;
};
struct ByDocument {
  bool operator()(const CopyRow& a, const CopyRow& b) const {
    return std::tie(a.id, a.position) < std::tie(b.id, b.position);
  }
};

bool is_blank(std::string_view line) {
  for (size_t at = 0; at < line.size();) {
    const CodePoint c = code_point_at(line, at);
    if (c.kind != CodePoint::Kind::valid || !is_white_space(c.value)) return false;
    at += c.bytes;
  }
  return true;
}

void add_lines(std::string_view text, std::vector<PartRange>& out) {
  for (size_t begin = 0; begin < text.size();) {
    const size_t newline = text.find('\n', begin);
    const size_t end = newline == std::string_view::npos ? text.size() : newline + 1;
    out.push_back({begin, end});
    begin = end;
  }
}

// A paragraph ends where a line with words follows a blank one.
std::vector<PartRange> joined_paragraphs(std::string_view text, const std::vector<PartRange>& lines) {
  std::vector<PartRange> out;
  bool after_blank = true;
  for (const PartRange& line : lines) {
    const bool blank = is_blank(text.substr(line.begin, line.end - line.begin));
    if (out.empty() || (after_blank && !blank && out.back().end > 0))
      out.push_back(line);
    else
      out.back().end = line.end;
    after_blank = blank;
  }
  return out;
}

bool ends_sentence(char c) {
  return c == '.' || c == '!' || c == '?';
}
bool closes(char c) {
  return c == '"' || c == '\'' || c == ')' || c == ']';
}
bool is_space(char c) {
  return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

void add_sentences(std::string_view text, std::vector<PartRange>& out) {
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    bool end = text[at] == '\n';
    if (ends_sentence(text[at])) {
      while (at < text.size() && ends_sentence(text[at])) ++at;
      while (at < text.size() && closes(text[at])) ++at;
      end = at < text.size() && is_space(text[at]);
    }
    if (!end) {
      at += at < text.size() && !ends_sentence(text[at]);
      continue;
    }
    while (at < text.size() && is_space(text[at])) ++at;
    out.push_back({begin, at});
    begin = at;
  }
  if (begin < text.size()) out.push_back({begin, text.size()});
}

// What a part is compared by: its words' number and their hash.
struct PartHash {
  uint64_t hash = 0, words = 0;
};
PartHash hash_of(std::string_view part, std::string& simple) {
  simplify_text(part, {}, simple);
  PartHash out;
  if (simple.empty()) return out;
  out.hash = digest_of(simple).low;
  for (const char c : simple) out.words += c == ' ';
  ++out.words;
  return out;
}

}  // namespace

std::vector<PartRange> parts_of(std::string_view text, TextPart part) {
  std::vector<PartRange> out;
  if (part == TextPart::sentence) {
    add_sentences(text, out);
    return out;
  }
  add_lines(text, out);
  return part == TextPart::line ? out : joined_paragraphs(text, out);
}

LineDedupOptions c4_sentence_spans(const fs::path& folder) {
  LineDedupOptions options;
  options.folder = folder;
  options.part = TextPart::sentence;
  options.span = 3;
  return options;
}

struct LineDedup::State {
  LineDedupOptions options;
  kn::Exec exec;
  ExternalSort<PartRow, ByHash> rows;

  std::vector<PartRow> rows_of(const DedupText& document, std::string& simple) const {
    std::vector<PartRow> out;
    const auto parts = parts_of(document.text, options.part);
    check(parts.size() < UINT32_MAX, Code::unsupported, "[lines] document ", document.id, " has ",
          parts.size(), " parts");
    std::vector<PartHash> hashes;
    for (const PartRange& p : parts)
      hashes.push_back(hash_of(document.text.substr(p.begin, p.end - p.begin), simple));
    for (size_t i = 0; i + options.span <= hashes.size(); ++i) {
      uint64_t hash = 0, words = 0;
      for (size_t k = i; k < i + options.span; ++k) {
        hash =
            fold_product(hash ^ hashes[k].hash ^ 0x9E3779B97F4A7C15u, 0xD1B54A32D192ED03u) + hashes[k].hash;
        words += hashes[k].words;
      }
      if (words < std::max<uint32_t>(options.min_words, 1)) continue;  // nothing to compare
      out.push_back({hash, document.id, document.priority, static_cast<uint32_t>(i)});
    }
    return out;
  }
};

LineDedup::LineDedup(const LineDedupOptions& options, const kn::Exec& exec)
    : state_(new State{options, exec, {{options.folder, "parts", options.memory_bytes / 2}, exec}}) {
  check(options.span >= 1 && options.span <= 1024, Code::usage, "[lines] spans of ", options.span,
        " parts, 1 to 1024 is possible");
}
LineDedup::~LineDedup() = default;

void LineDedup::add(std::span<const DedupText> batch) {
  std::vector<std::vector<PartRow>> rows(batch.size());
  for_each_slice(state_->exec, batch.size(), 16, [&](size_t first, size_t last) {
    std::string simple;
    for (size_t i = first; i < last; ++i) {
      check_priority(batch[i]);
      rows[i] = state_->rows_of(batch[i], simple);
    }
  });
  for (const auto& list : rows)
    for (const PartRow& row : list) state_->rows.add(row);
}

void LineDedup::finish(const std::function<void(const RepeatedParts&)>& sink) {
  const LineDedupOptions& options = state_->options;
  ExternalSort<CopyRow, ByDocument> copies({options.folder, "copies", options.memory_bytes / 2},
                                           state_->exec);
  bool any = false;
  PartRow first{};
  state_->rows.finish([&](const PartRow& row) {
    if (any && row.hash == first.hash) {
      for (uint32_t k = 0; k < options.span; ++k) copies.add({row.id, uint64_t{row.position} + k});
    } else {
      first = row, any = true;
    }
  });
  RepeatedParts document;
  copies.finish([&](const CopyRow& row) {
    if (!document.parts.empty() && document.id != row.id) {
      sink(document);
      document.parts.clear();
    }
    document.id = row.id;
    const auto position = static_cast<uint32_t>(row.position);
    if (document.parts.empty() || document.parts.back() != position) document.parts.push_back(position);
  });
  if (!document.parts.empty()) sink(document);
}

std::optional<std::string> without_parts(std::string_view text, TextPart part,
                                         std::span<const uint32_t> parts, double max_removed) {
  const auto ranges = parts_of(text, part);
  std::string out;
  size_t next = 0;
  for (size_t i = 0; i < ranges.size(); ++i) {
    if (next < parts.size() && parts[next] == i) {
      ++next;
      continue;
    }
    out.append(text.substr(ranges[i].begin, ranges[i].end - ranges[i].begin));
  }
  check(next == parts.size(), Code::input, "[lines] part ", next < parts.size() ? parts[next] : 0,
        " of a text with ", ranges.size(), "; was the text changed after it was compared?");
  const auto removed = static_cast<double>(text.size() - out.size());
  if (removed > max_removed * static_cast<double>(text.size())) return std::nullopt;
  return out;
}

}  // namespace llmctl
