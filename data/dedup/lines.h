// SPDX-License-Identifier: Apache-2.0
// Deduplication of parts of documents over the whole corpus: lines, paragraphs, or spans of three
// sentences (C4, Raffel et al. 2020). The first copy by (priority, id, position) stays - every other one
// goes, also inside one document - and cuts are at the boundaries of the part, newline included, so no two
// words are ever joined.
//
// A part is known by 64 bits of XXH3 of its simplified text (data/text/simplify.h); parts with fewer than
// min_words words are left alone. Rows of 24 bytes a part are sorted out of core.
//   line       up to and with its "\n"
//   paragraph  lines up to and with the blank lines that follow
//   sentence   up to and with the white space behind a run of . ! ? (and closing quotes or brackets), or a
//              newline; a span of three that was seen before takes its three sentences with it
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/base/file.h"
#include "data/dedup/verdict.h"
#include "kernels/exec.h"

namespace llmctl {

enum class TextPart : uint32_t { line, paragraph, sentence };

struct LineDedupOptions {
  fs::path folder;  // for spilled rows; exists
  uint64_t memory_bytes = uint64_t{256} << 20;
  TextPart part = TextPart::line;
  uint32_t span = 1;       // parts in a row that are compared as one; C4: 3 sentences
  uint32_t min_words = 1;  // of a span; below, it is not compared
};
LineDedupOptions c4_sentence_spans(const fs::path& folder);

// Bytes [begin, end) of each part of a text, in order, without gaps.
struct PartRange {
  uint64_t begin = 0, end = 0;
};
std::vector<PartRange> parts_of(std::string_view text, TextPart part);

// The parts of a document that are copies: their numbers in parts_of(), ascending.
struct RepeatedParts {
  uint64_t id = 0;
  std::vector<uint32_t> parts;
};

// Pass 1 over the corpus. Threads: from one thread; works on exec's.
class LineDedup {
 public:
  LineDedup(const LineDedupOptions& options, const kn::Exec& exec);
  ~LineDedup();
  void add(std::span<const DedupText> batch);
  // Documents with repeated parts, ascending id; once.
  void finish(const std::function<void(const RepeatedParts&)>& sink);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Pass 2: the text without those parts. Nothing when more than max_removed of its bytes went (1: never):
// the document should be dropped.
std::optional<std::string> without_parts(std::string_view text, TextPart part,
                                         std::span<const uint32_t> parts, double max_removed = 1);

}  // namespace llmctl
