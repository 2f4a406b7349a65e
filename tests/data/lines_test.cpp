// SPDX-License-Identifier: Apache-2.0
#include "data/dedup/lines.h"

#include <set>

#include "data/text/simplify.h"
#include "dedup_samples.h"

using namespace llmctl;

namespace {

std::vector<std::string> cut(const std::string& text, TextPart part) {
  std::vector<std::string> out;
  uint64_t at = 0;
  for (const PartRange& p : parts_of(text, part)) {
    CHECK(p.begin == at);
    at = p.end;
    out.push_back(text.substr(p.begin, p.end - p.begin));
  }
  CHECK(at == text.size());
  return out;
}

using Repeated = std::map<uint64_t, std::vector<uint32_t>>;
Repeated repeated(const std::vector<SampleDocument>& documents, LineDedupOptions options, int threads = 2,
                  uint64_t memory = uint64_t{1} << 30) {
  ScratchFolder scratch;
  Threads t(threads);
  options.folder = scratch.path;
  options.memory_bytes = memory;
  LineDedup dedup(options, t.exec);
  const auto all = views(documents);
  for (size_t at = 0; at < all.size(); at += 100)
    dedup.add(std::span(all).subspan(at, std::min<size_t>(100, all.size() - at)));
  Repeated out;
  dedup.finish([&](const RepeatedParts& p) {
    CHECK((out.empty() || out.rbegin()->first < p.id));
    out[p.id] = p.parts;
  });
  CHECK(fs::is_empty(scratch.path));
  return out;
}

LineDedupOptions options_of(TextPart part, uint32_t span = 1, uint32_t min_words = 1) {
  LineDedupOptions o;
  o.part = part, o.span = span, o.min_words = min_words;
  return o;
}

}  // namespace

TEST_CASE("parts cover the text", "[lines]") {
  using Strings = std::vector<std::string>;
  CHECK(cut("", TextPart::line).empty());
  CHECK(cut("a\n\nb", TextPart::line) == Strings{"a\n", "\n", "b"});
  CHECK(cut("a\nb\n\n \nc\n\n", TextPart::paragraph) == Strings{"a\nb\n\n \n", "c\n\n"});
  CHECK(cut("\n\na\n", TextPart::paragraph) == Strings{"\n\n", "a\n"});
  CHECK(cut("One. Two?! \"Three.\"  Four 3.5 e.g\nFive", TextPart::sentence) ==
        Strings{"One. ", "Two?! ", "\"Three.\"  ", "Four 3.5 e.g\n", "Five"});
  CHECK(cut("...", TextPart::sentence) == Strings{"..."});
  CHECK(cut(".\". a", TextPart::sentence) == Strings{".\". ", "a"});
  for (const TextPart part : {TextPart::line, TextPart::paragraph, TextPart::sentence}) {
    CounterRandom random(3, static_cast<uint64_t>(part));
    for (int i = 0; i < 300; ++i) {
      std::string text;
      for (uint64_t k = random.below(40); k > 0; --k) text += "ab .!?\"\n\n\t\xff\xc3"[random.below(12)];
      cut(text, part);
    }
  }
}

TEST_CASE("the first line by (priority, id, position) stays", "[lines]") {
  const std::vector<SampleDocument> documents = {{5, 0, "One line\nshared, here.\nOne line\n"},
                                                 {2, 1, "SHARED here\nown words\n}\n}\n"},
                                                 {9, 0, "one  LINE\n\n\nlast"}};
  CHECK(repeated(documents, options_of(TextPart::line)) == Repeated{{2, {0}}, {5, {2}}, {9, {0}}});
  CHECK(repeated(documents, options_of(TextPart::line, 1, 3)).empty());
}

TEST_CASE("three sentences that were seen before take all three", "[lines]") {
  const std::vector<SampleDocument> documents = {{1, 0, "A one. B two. C three. D four."},
                                                 {2, 0, "X. A one. B two. C three. Y."},
                                                 {3, 0, "A one. B two. D four."}};
  const Repeated found = repeated(documents, c4_sentence_spans({}));
  CHECK(found == Repeated{{2, {1, 2, 3}}});
  CHECK(without_parts(documents[1].text, TextPart::sentence, found.at(2)) == "X. Y.");
}

TEST_CASE("lines against brute force, for any threads, memory and arrival", "[lines]") {
  WordSource source(6);
  std::vector<std::string> pool;
  for (int i = 0; i < 3000; ++i) pool.push_back(join_words(source.words(1 + source.random().below(6))));
  std::vector<SampleDocument> documents;
  for (uint64_t d = 0; d < 2000; ++d) {
    std::string text;
    for (uint64_t k = source.random().below(30); k > 0; --k)
      text += pool[source.random().below(pool.size())] + "\n";
    documents.push_back({d * 3 % 2003, static_cast<uint32_t>(source.random().below(2)), text});
  }
  std::map<std::string, std::tuple<uint32_t, uint64_t, uint32_t>> first;
  const auto each_line = [&](const auto& body) {
    for (const SampleDocument& d : documents) {
      const auto lines = cut(d.text, TextPart::line);
      for (uint32_t i = 0; i < lines.size(); ++i) body(lines[i], std::tuple(d.priority, d.id, i));
    }
  };
  each_line([&](const std::string& line, const auto& at) {
    const auto [it, fresh] = first.emplace(line, at);
    if (!fresh) it->second = std::min(it->second, at);
  });
  Repeated want;
  each_line([&](const std::string& line, const auto& at) {
    if (first[line] != at) want[std::get<1>(at)].push_back(std::get<2>(at));
  });
  CHECK(want.size() > 1500);
  CHECK(repeated(documents, options_of(TextPart::line)) == want);
  CHECK(repeated(documents, options_of(TextPart::line), 1, 0) == want);
  std::reverse(documents.begin(), documents.end());
  CHECK(repeated(documents, options_of(TextPart::line), 4, 0) == want);
}

TEST_CASE("cutting joins no words, and may drop the document", "[lines]") {
  const std::string text = "Alice\nwanted\nseed";
  const std::vector<uint32_t> second = {1}, all = {0, 1, 2}, outside = {3};
  CHECK(without_parts(text, TextPart::line, second) == "Alice\nseed");
  CHECK(without_parts(text, TextPart::line, {}) == text);
  CHECK(without_parts(text, TextPart::line, all) == "");
  CHECK(without_parts(text, TextPart::line, second, 7.0 / 17) == "Alice\nseed");
  CHECK_FALSE(without_parts(text, TextPart::line, second, 0.4).has_value());
  CHECK(code_of([&] { without_parts(text, TextPart::line, outside); }) == Code::input);
  CHECK(code_of([] { repeated({}, options_of(TextPart::line, 0)); }) == Code::usage);
}

TEST_CASE("simplified text: rules one by one", "[simplify]") {
  const std::pair<const char*, const char*> cases[] = {
      {"", ""},
      {"  Hello,   WORLD! ", "hello world"},
      {"a.b\tc\nd", "a b c d"},
      {"3.14 and 1,000,000 x2y", "0 and 0 0 x0y"},
      {"5.", "0"},
      {"\xC3\x89T\xC3\x89 na\xC3\xAFve", "ete naive"},           // E acute, i diaeresis
      {"e\xCC\x81", "e"},                                        // combining acute
      {"\xD9\xA1\xD9\xAB\xD9\xA2", "0"},                         // Arabic-Indic 1.2 with U+066B
      {"\xEF\xBC\x91", "0"},                                     // full-width 1: a number, not a quote
      {"\xE2\x80\x9Cquoted\xE2\x80\x9D\xE2\x80\xA6", "quoted"},  // U+201C, U+201D, U+2026
      {"\xE4\xB8\xAD\xE6\x96\x87"
       "ab",
       "\xE4\xB8\xAD \xE6\x96\x87 ab"},  // Han: a word each
      {"\xFF"
       "a\xC3",
       "\xEF\xBF\xBD"
       "a\xEF\xBF\xBD"},
      {"\xCE\xA3\xCE\x91", "\xCF\x83\xCE\xB1"},                  // sigma, alpha
      {"\xED\x95\x9C", "\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB"},  // Hangul by its parts
  };
  for (const auto& [text, want] : cases) CHECK(simplify_text(text) == want);
  CHECK(simplify_text("3.14 a", {false}) == "3 14 a");
}
