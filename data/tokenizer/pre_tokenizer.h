// SPDX-License-Identifier: Apache-2.0
// Cuts a section of text into the pieces that BPE sees, as the file's "pre_tokenizer" says: ByteLevel,
// Split, Digits, Metaspace and sequences of them, with Hugging Face's meaning of every option. Any
// other one is Error{unsupported} by name.
//
// ByteLevel here adds the prefix space and splits, but the pieces stay raw bytes: the byte alphabet
// is resolved once, in the vocabulary. So it must come last in a sequence.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/base/json.h"
#include "data/tokenizer/split_regex.h"

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

 private:
  enum class Behavior { removed, isolated, with_previous, with_next, contiguous };
  struct Step {
    enum class Kind { regex, literal, prefix_space, metaspace } kind;
    Behavior behavior = Behavior::isolated;
    bool invert = false;
    std::string text{};                  // literal, or Metaspace's replacement
    bool always = false, first = false;  // metaspace: prepend
    std::vector<SplitRegex> regex{};     // one for Kind::regex
  };
  void add(const Json& json, int depth);
  void add_split(const Json& json);
  void add_byte_level(const Json& json);
  void add_metaspace(const Json& json);
  static void split(const Step& step, Pieces& pieces);
  static void find(const Step& step, std::string_view piece, std::vector<Range>& out);
  static void prefix(const Step& step, Pieces& pieces, bool at_start);
  std::vector<Step> steps_;
  bool byte_level_ = false;
};

}  // namespace llmctl
