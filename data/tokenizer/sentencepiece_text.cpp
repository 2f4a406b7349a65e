// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer/sentencepiece_text.h"

#include "data/text/utf8.h"

namespace llmctl {

namespace {

struct Bit {  // text[at, at + size) becomes `with`
  size_t size;
  std::string_view with;
};

Bit bit_at(std::string_view text, size_t at, const SentencePieceRules& rules) {
  const std::string_view rest = text.substr(at);
  if (rules.user_defined) {
    const size_t size = rules.user_defined->longest(rest).size;
    if (size > 0) return {size, rest.substr(0, size)};
  }
  if (rules.map)
    if (const auto hit = rules.map->find(rest, true)) return {hit->size, hit->with};
  const CodePoint point = code_point_at(text, at);
  const size_t size = point.kind == CodePoint::Kind::valid ? point.bytes : 1;
  return {size, rest.substr(0, size)};
}

}  // namespace

AlignedText sentencepiece_text(const AlignedText& text, const SentencePieceRules& rules) {
  const std::string_view all = text.text, space = rules.escape_whitespaces ? "\xE2\x96\x81" : " ";
  size_t at = 0, end = all.size();
  while (rules.remove_extra_whitespaces && at < end) {
    const Bit bit = bit_at(all, at, rules);
    if (bit.with != " ") break;
    at += bit.size;
  }
  Rewrite rewrite(text);
  if (at == end) return rewrite.take();
  if (rules.add_dummy_prefix && !rules.space_as_suffix) rewrite.put(space, at, at);
  bool after_space = rules.remove_extra_whitespaces;
  size_t trailing = 0, trailing_from = at;  // spaces not written yet: trimmed when nothing follows
  const auto flush = [&] {
    for (; trailing > 0; --trailing) rewrite.put(space, trailing_from, trailing_from + 1);
  };
  while (at < end) {
    const Bit bit = bit_at(all, at, rules);
    std::string_view with = bit.with;
    while (after_space && with.starts_with(' ')) with.remove_prefix(1);
    if (!with.empty()) {
      for (size_t i = 0; i < with.size(); ++i) {
        if (with[i] == ' ' || with.substr(i).starts_with(space)) {
          if (trailing == 0) trailing_from = at;
          i += with[i] == ' ' ? 0 : space.size() - 1;
          ++trailing;
          continue;
        }
        flush();
        rewrite.put(with.substr(i, 1), at, at + bit.size);
      }
      after_space = with.ends_with(' ');
    }
    at += bit.size;
    if (!rules.remove_extra_whitespaces) after_space = false;
  }
  if (!rules.remove_extra_whitespaces) flush();
  if (rules.add_dummy_prefix && rules.space_as_suffix) rewrite.put(space, end, end);
  return rewrite.take();
}

}  // namespace llmctl
