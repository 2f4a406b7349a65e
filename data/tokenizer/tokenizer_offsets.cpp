// SPDX-License-Identifier: Apache-2.0
// Tokenizer::encode_with_offsets: the same ids as encode(), each with the bytes it stands for.
#include "data/text/rewrite.h"
#include "data/text/utf8.h"
#include "data/tokenizer/tokenizer_state.h"

namespace llmctl {

namespace {

// A pre-tokenizer changes text in two ways: a mark in front of a piece that does not begin with one, and
// a mark for each space. Both can be told from the two texts alone.
AlignedText aligned_pieces(const AlignedText& section, const std::string& changed) {
  if (changed == section.text) return section;
  Rewrite rewrite(section);
  size_t from = 0;
  for (size_t at = 0; at < changed.size();) {
    const bool same = from < section.text.size() && section.text[from] == changed[at];
    if (same) {
      rewrite.keep(from, from + 1);
      ++from, ++at;
      continue;
    }
    const CodePoint mark = code_point_at(changed, at);
    const bool space = from < section.text.size() && section.text[from] == ' ';
    rewrite.put(std::string_view(changed).substr(at, mark.bytes), from, from + (space ? 1 : 0));
    from += space ? 1 : 0;
    at += mark.bytes;
  }
  return rewrite.take();
}

AlignedText part_of(const AlignedText& text, size_t begin, size_t end) {
  Rewrite rewrite(text);
  rewrite.keep(begin, end);
  AlignedText part = rewrite.take();
  part.end = text.origin_of(end, end).begin;
  return part;
}

}  // namespace

std::vector<TokenSpan> Tokenizer::encode_with_offsets(std::string_view text, EncodeOptions options) const {
  const State& s = *state_;
  std::vector<TokenSpan> out;
  const auto add_template = [&](const std::vector<int32_t>& ids, size_t at) {
    for (const int32_t id : ids)
      if (options.add_special) out.push_back({id, at, at});
  };
  std::vector<int32_t> ids;
  std::vector<size_t> ends;
  const auto add_piece = [&](const AlignedText& whole, const Range& r) {
    ids.clear();
    ends.clear();
    const std::string_view piece = std::string_view(whole.text).substr(r.begin, r.end - r.begin);
    s.model().encode(piece, ids);
    s.model().ends_of(piece, ids.data(), ids.size(), ends);
    size_t begin = r.begin;
    for (size_t i = 0; i < ids.size(); ++i) {
      const Origin origin = whole.origin_of(begin, r.begin + ends[i]);
      out.push_back({ids[i], origin.begin, origin.end});
      begin = r.begin + ends[i];
    }
  };
  add_template(s.prefix, 0);
  for (const Section& section : s.raw_finder.split(text, options.parse_special)) {
    if (section.id >= 0) {
      out.push_back({section.id, section.begin, section.end});
      continue;
    }
    const AlignedText normal = s.normalizer.apply(
        AlignedText(text.substr(section.begin, section.end - section.begin), true, section.begin));
    for (const Section& inner : s.normalized_finder.split(normal.text, options.parse_special)) {
      const Origin origin = normal.origin_of(inner.begin, inner.end);
      if (inner.id >= 0) {
        out.push_back({inner.id, origin.begin, origin.end});
        continue;
      }
      const AlignedText part = part_of(normal, inner.begin, inner.end);
      const Pieces pieces = s.pre_tokenizer.cut(part.text, section.begin == 0 && inner.begin == 0);
      const AlignedText whole = aligned_pieces(part, pieces.text);
      for (const Range& r : pieces.ranges) add_piece(whole, r);
    }
  }
  add_template(s.suffix, text.size());
  return out;
}

}  // namespace llmctl
