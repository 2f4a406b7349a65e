// SPDX-License-Identifier: Apache-2.0
// ARPA: \data\, counts, \1-grams: lines of log10 p, words, log10 backoff parted by tabs, \end\.
#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <limits>

#include "data/quality/ngram_file.h"
#include "data/quality/ngram_state.h"

namespace llmctl {
namespace {

std::string number(float value) {
  char buffer[32];
  const auto [end, error] = std::to_chars(buffer, buffer + sizeof buffer, value);
  return {buffer, end};
}

struct ArpaReader {
  ArpaReader(const fs::path& path, fs::path folder)
      : name(path.string()), reader(path), scratch(std::move(folder)) {}
  std::string name;
  ByteReader reader;
  fs::path scratch;
  std::string line;
  uint64_t at = 0;
  std::vector<uint64_t> counts;
  NgramVocabulary vocabulary;
  std::vector<std::unique_ptr<RowSorter>> orders;

  void need(bool ok, const char* what) const {
    check(ok, Code::input, "[ngram] ", name, " line ", at, ": ", what);
  }
  bool next() {
    ++at;
    return reader.line(line, size_t{1} << 20);
  }
  // Text up to a tab or a space; what is left stays in `rest`.
  static std::string_view field(std::string_view& rest) {
    rest.remove_prefix(std::min(rest.find_first_not_of("\t "), rest.size()));
    const std::string_view one = rest.substr(0, rest.find_first_of("\t \r"));
    rest.remove_prefix(one.size());
    return one;
  }
  float value(std::string_view text) const {
    float v = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), v);
    need(error == std::errc() && end == text.data() + text.size() && v == v && v <= 99,
         "no log10 probability");
    return v;
  }
  void head() {
    while (next() && line.find("\\data\\") != 0) need(at < 1000, "no \\data\\");
    while (next() && line.starts_with("ngram ")) {
      const size_t equals = line.find('=');
      need(equals != std::string::npos && line.substr(6, equals - 6) == std::to_string(counts.size() + 1),
           "no count of the next order");
      uint64_t n = 0;
      const auto [end, error] = std::from_chars(line.data() + equals + 1, line.data() + line.size(), n);
      need(error == std::errc(), "no count");
      counts.push_back(n);
    }
    need(!counts.empty() && counts.size() <= kMaxOrder, "orders 1 to 8 are read");
  }
  void ngrams(size_t n) {
    while (line.empty() || line == "\r") need(next(), "cut short");
    need(line.starts_with("\\" + std::to_string(n) + "-grams:"), "not the n-grams of the next order");
    orders.push_back(std::make_unique<RowSorter>(scratch / ("arpa-" + std::to_string(n)),
                                                 RowShape{static_cast<int>(n), 2, false},
                                                 uint64_t{64} << 20));
    std::array<uint32_t, kMaxOrder + 2> row{};
    for (uint64_t i = 0; i < counts[n - 1]; ++i) {
      need(next(), "cut short");
      std::string_view rest = line;
      row[n] = std::bit_cast<uint32_t>(value(field(rest)));
      for (size_t k = n; k-- > 0;) {
        const std::string_view word = field(rest);
        need(!word.empty(), "too few words");
        const size_t known = vocabulary.words().size();
        row[k] = vocabulary.add(word);
        need(n == 1 || vocabulary.words().size() == known, "a word that is no unigram");
      }
      const std::string_view backoff = field(rest);
      row[n + 1] = std::bit_cast<uint32_t>(backoff.empty() ? 0.f : value(backoff));
      orders[n - 1]->push(row.data());
    }
    need(next(), "cut short");
  }
};

}  // namespace

void import_arpa(const fs::path& arpa, const fs::path& model, NgramUnit unit, bool overwrite) {
  OutputFolder scratch(model.string() + ".import", true);
  ArpaReader in(arpa, scratch.path());
  in.head();
  for (size_t n = 1; n <= in.counts.size(); ++n) in.ngrams(n);
  // Node i of the first order is word i + 1: markers that the file lacks get no probability.
  const size_t markers = in.vocabulary.words().size() - in.counts[0];
  check(markers <= 3, Code::input, "[ngram] ", arpa.string(), ": a word stands twice among its unigrams");
  std::vector<bool> seen(3, false);
  in.orders[0]->rewind();
  auto unigrams =
      std::make_unique<RowSorter>(scratch.path() / "unigrams", RowShape{1, 2, false}, uint64_t{64} << 20);
  while (in.orders[0]->next()) {
    const uint32_t* row = in.orders[0]->row();
    if (row[0] <= kEndWord) seen[row[0] - 1] = true;
    unigrams->push(row);
  }
  for (uint32_t id = kUnknownWord; id <= kEndWord; ++id) {
    if (seen[id - 1]) continue;
    const uint32_t row[3] = {id, std::bit_cast<uint32_t>(-100.f), 0};
    unigrams->push(row);
  }
  in.orders[0] = std::move(unigrams);
  NgramWriter writer(scratch.path(), static_cast<int>(in.counts.size()), unit);
  uint32_t last = 0;
  walk_orders(in.orders, [&](int n, const uint32_t* row) {
    if (n == 1)
      check(row[0] == ++last, Code::input, "[ngram] ", arpa.string(), ": a word stands twice or not at all");
    writer.add(n, row[n - 1], std::bit_cast<float>(row[n]), std::bit_cast<float>(row[n + 1]));
  });
  writer.finish(in.vocabulary, model, overwrite);
}

void NgramModel::write_arpa(const fs::path& file, bool overwrite) const {
  const State& s = *state_;
  OutputFile out(file, overwrite);
  std::string text = "\\data\\\n";
  for (int n = 1; n <= s.order; ++n)
    text += "ngram " + std::to_string(n) + "=" + std::to_string(ngrams(n)) + "\n";
  std::array<uint32_t, kMaxOrder> words{};
  for (int n = 1; n <= s.order; ++n) {
    text += "\n\\" + std::to_string(n) + "-grams:\n";
    const auto write = [&](const NgramNode& node) {
      text += number(node.log10_prob);
      text += '\t';
      for (int k = n; k-- > 0;) {
        const uint32_t id = words[static_cast<size_t>(k)];
        text += id >= 1 && id <= s.words ? s.word(id) : std::string_view("<unk>");
        if (k > 0) text += ' ';
      }
      if (n < s.order) text += "\t" + number(node.log10_backoff);
      text += '\n';
      if (text.size() > (size_t{1} << 20)) {
        out.write(text);
        text.clear();
      }
    };
    // Down to depth n; words[k] is the word k places before the last.
    const auto down = [&](auto&& self, int depth, uint64_t begin, uint64_t end) -> void {
      for (uint64_t i = begin; i < end; ++i) {
        const NgramNode node = s.node(depth, i);
        words[static_cast<size_t>(depth) - 1] = node.word;
        if (depth == n) {
          write(node);
          continue;
        }
        const uint64_t stop = s.node(depth, i + 1).child();
        if (stop <= s.counts[static_cast<size_t>(depth)]) self(self, depth + 1, node.child(), stop);
      }
    };
    down(down, 1, 0, s.counts[0]);
  }
  out.write(text + "\n\\end\\\n");
  out.commit();
}

}  // namespace llmctl
