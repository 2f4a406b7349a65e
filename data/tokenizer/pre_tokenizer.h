// SPDX-License-Identifier: Apache-2.0
// Cuts a section of text into the pieces that BPE sees, as the file's "pre_tokenizer" says: ByteLevel,
// Split, Digits, Metaspace and sequences of them, with Hugging Face's meaning of every option. Any
// other one is Error{unsupported} by name.
//
// ByteLevel here adds the prefix space and splits, but the pieces stay raw bytes: the byte alphabet
// is resolved once, in the vocabulary. So it must come last in a sequence.
//
// Known patterns, and known sequences of them, are cut by a Splitter; when a file is read it is held
// against PCRE2 on a built-in text, and a difference is Error{bug}: never other pieces in silence.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/json.h"
#include "data/tokenizer/split_regex.h"
#include "data/tokenizer/splitter.h"

namespace llmctl {

struct Pieces {
  std::string text;
  std::vector<Range> ranges;  // ascending, not empty
};

class PreTokenizer {
 public:
  PreTokenizer() = default;
  explicit PreTokenizer(const Json& json);
  bool byte_level() const { return byte_level_; }
  // at_start: the section begins where the whole text begins (Metaspace's prepend_scheme "first").
  Pieces cut(std::string section, bool at_start) const;
  // The same pieces one after another: piece(std::string_view). They lie in `text` and nothing is
  // allocated where in_place().
  template <class Piece>
  void for_each_piece(std::string_view text, bool at_start, Piece&& piece) const;
  bool in_place() const { return splitter_ || steps_.empty(); }
  // Hand-built, or nothing: then PCRE2 cuts.
  const std::optional<Splitter>& splitter() const { return splitter_; }

 private:
  enum class Behavior { removed, isolated, with_previous, with_next, contiguous };
  struct Step {
    enum class Kind { regex, literal, prefix_space, metaspace } kind;
    Behavior behavior = Behavior::isolated;
    bool invert = false;
    std::string text{};                  // literal, pattern, or Metaspace's replacement
    bool always = false, first = false;  // metaspace: prepend
    std::vector<SplitRegex> regex{};     // one for Kind::regex
  };
  void add(const Json& json, int depth);
  void add_split(const Json& json);
  void add_byte_level(const Json& json);
  void add_metaspace(const Json& json);
  std::optional<SplitFamily> known_family() const;
  void prove() const;
  Pieces cut_by_steps(std::string section, bool at_start) const;
  static void split(const Step& step, Pieces& pieces);
  static void find(const Step& step, std::string_view piece, std::vector<Range>& out);
  static void prefix(const Step& step, Pieces& pieces, bool at_start);
  std::vector<Step> steps_;
  std::optional<Splitter> splitter_;
  bool byte_level_ = false;
};

template <class Piece>
void PreTokenizer::for_each_piece(std::string_view text, bool at_start, Piece&& piece) const {
  if (splitter_) {
    uint32_t ends[Splitter::kBatch + 8];
    for (size_t at = 0; at < text.size();) {
      const size_t n = splitter_->cut(text, at, ends);
      const std::string_view from = text.substr(at);
      uint32_t begin = 0;
      for (size_t i = 0; i < n; begin = ends[i++]) piece(from.substr(begin, ends[i] - begin));
      at += begin;
    }
  } else if (steps_.empty()) {
    if (!text.empty()) piece(text);
  } else {
    const Pieces pieces = cut_by_steps(std::string(text), at_start);
    for (const Range& r : pieces.ranges)
      piece(std::string_view(pieces.text).substr(r.begin, r.end - r.begin));
  }
}

}  // namespace llmctl
