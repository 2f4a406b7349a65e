// SPDX-License-Identifier: Apache-2.0
// Estimation in four sorted passes. Rows hold words back to front: w, the word before it, ...
//   1  n-grams of the highest order with counts, sorted: each prefix of a row is an n-gram of a lower order,
//      and the longer prefixes that share it are its left neighbours
//   2  per order, sorted by context then word: denominators, discounted probabilities, backoffs of contexts
//   3  per order, sorted as in 1: a walk over all orders at once mixes each with the one below
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "data/quality/ngram_file.h"
#include "data/quality/portable_math.h"

namespace llmctl {
namespace {

struct Discounts {
  std::array<double, 4> d{};  // by count, 3 for 3 and more
  double of(uint64_t count) const { return d[std::min<uint64_t>(count, 3)]; }
};

// Chen and Goodman's equation 26 from how many n-grams have adjusted count 1, 2, 3, 4.
Discounts discounts_of(const std::array<uint64_t, 5>& n, int order, bool fallback) {
  Discounts result{{0, .5, 1, 1.5}};
  bool good = n[1] > 0 && n[2] > 0 && n[3] > 0;
  if (good) {
    const double y = static_cast<double>(n[1]) / static_cast<double>(n[1] + 2 * n[2]);
    Discounts estimated;
    for (size_t j = 1; j <= 3; ++j) {
      const double k = static_cast<double>(j);
      estimated.d[j] = k - (k + 1) * y * static_cast<double>(n[j + 1]) / static_cast<double>(n[j]);
      good &= estimated.d[j] >= 0 && estimated.d[j] <= k;
    }
    if (good) return estimated;
  }
  check(fallback, Code::input, "[ngram] the text shows ", n[1], ", ", n[2], ", ", n[3], " ", order,
        "-grams of counts 1, 2, 3: too few for discounts of their own; add text or allow the fallback");
  return result;
}

void put(uint32_t* out, uint64_t v) {
  out[0] = static_cast<uint32_t>(v);
  out[1] = static_cast<uint32_t>(v >> 32);
}
uint64_t get(const uint32_t* in) {
  return in[0] | uint64_t{in[1]} << 32;
}
void put(uint32_t* out, double v) {
  put(out, std::bit_cast<uint64_t>(v));
}
double get_double(const uint32_t* in) {
  return std::bit_cast<double>(get(in));
}

}  // namespace

struct NgramTrainer::State {
  explicit State(NgramOptions o) : options(std::move(o)), order(static_cast<size_t>(options.order)) {
    check(options.order >= 1 && options.order <= kMaxOrder, Code::usage, "[ngram] order ", options.order,
          ": 1 to ", kMaxOrder);
    check(!options.scratch.empty(), Code::usage, "[ngram] no folder for sorted runs");
    fs::create_directories(options.scratch);
    share = std::max<uint64_t>(options.memory_bytes, uint64_t{1} << 20) / (order + 2);
    counts = sorter("counts", options.order, 2, true);
  }
  std::unique_ptr<RowSorter> sorter(const std::string& name, int keys, int payload, bool add) const {
    return std::make_unique<RowSorter>(options.scratch / name, RowShape{keys, payload, add}, share);
  }
  void add_sentence(std::string_view line);
  void adjust();
  void divide(size_t n);
  void mix(const fs::path& model, bool overwrite);

  NgramOptions options;
  size_t order;
  uint64_t share = 0;  // bytes for each sorter that lives at the same time
  NgramVocabulary vocabulary;
  std::unique_ptr<RowSorter> counts;
  std::vector<std::unique_ptr<RowSorter>> by_context, by_suffix, backoffs;
  std::vector<std::array<uint64_t, 5>> counts_of_counts;
  double unigram_gamma = 0;
  std::vector<uint32_t> ids;
};

void NgramTrainer::State::add_sentence(std::string_view line) {
  ids.assign(1, kBeginWord);
  for_each_token(line, options.unit, [&](std::string_view token) {
    const uint32_t id = vocabulary.add(token);
    if (id > kEndWord) ids.push_back(id);  // text that spells a marker is no word
  });
  ids.push_back(kEndWord);
  std::array<uint32_t, kMaxOrder + 2> row{};
  for (size_t i = 1; i < ids.size(); ++i) {
    for (size_t k = 0; k < order; ++k) row[k] = k <= i ? ids[i - k] : kNoWord;
    put(row.data() + order, uint64_t{1});
    counts->push(row.data());
  }
}

// Pass 1: from counts of the highest order to adjusted counts of every order, sent on by context.
void NgramTrainer::State::adjust() {
  for (size_t n = 1; n <= order; ++n)
    by_context.push_back(sorter("context-" + std::to_string(n), static_cast<int>(n), 2, false));
  counts_of_counts.resize(order + 1);
  std::array<uint32_t, kMaxOrder> open{};          // the n-gram being counted, and of each prefix
  std::array<uint64_t, kMaxOrder + 1> adjusted{};  // its count so far
  size_t depth = 0;
  const auto close = [&](size_t keep) {  // the prefixes longer than keep are complete
    for (size_t n = depth; n > keep; --n) {
      std::array<uint32_t, kMaxOrder + 2> row{};
      for (size_t k = 1; k < n; ++k) row[k - 1] = open[k];
      row[n - 1] = open[0];
      put(row.data() + n, adjusted[n]);
      by_context[n - 1]->push(row.data());
      if (adjusted[n] < 5) ++counts_of_counts[n][adjusted[n]];
    }
  };
  counts->rewind();
  while (counts->next()) {
    const uint32_t* row = counts->row();
    const uint64_t count = get(row + order);
    size_t length = 0, same = 0;
    while (length < order && row[length] != kNoWord) ++length;
    while (same < std::min(length, depth) && row[same] == open[same]) ++same;
    close(same);
    // One more left neighbour for the longest prefix seen before; a new n-gram starts with one. What begins
    // with <s> has no neighbours, and the highest order none that are known: both keep their counts.
    if (same > 0 && same < length) ++adjusted[same];
    for (size_t n = same + 1; n <= length; ++n) {
      open[n - 1] = row[n - 1];
      adjusted[n] = n == order || row[n - 1] == kBeginWord ? count : 1;
    }
    depth = length;
  }
  close(0);
  counts.reset();
}

// Pass 2: the n-grams of one order, context by context.
void NgramTrainer::State::divide(size_t n) {
  const Discounts discounts =
      discounts_of(counts_of_counts[n], static_cast<int>(n), options.discount_fallback);
  by_suffix.push_back(sorter("suffix-" + std::to_string(n), static_cast<int>(n), 4, false));
  if (n > 1)
    backoffs.push_back(sorter("backoff-" + std::to_string(n - 1), static_cast<int>(n) - 1, 2, false));
  RowSorter& in = *by_context[n - 1];
  std::vector<std::pair<uint32_t, uint64_t>> words;  // of one context
  std::array<uint32_t, kMaxOrder + 4> context{};
  const auto close = [&] {
    if (words.empty()) return;
    uint64_t sum = 0;
    std::array<uint64_t, 4> kinds{};
    for (const auto& [word, count] : words) {
      sum += count;
      ++kinds[std::min<uint64_t>(count, 3)];
    }
    double left = 0;
    for (size_t j = 1; j <= 3; ++j) left += discounts.d[j] * static_cast<double>(kinds[j]);
    const double gamma = left / static_cast<double>(sum);
    if (n == 1) unigram_gamma = gamma;
    std::array<uint32_t, kMaxOrder + 4> row{};
    for (const auto& [word, count] : words) {
      row[0] = word;
      std::copy_n(context.begin(), n - 1, row.begin() + 1);
      put(row.data() + n, (static_cast<double>(count) - discounts.of(count)) / static_cast<double>(sum));
      put(row.data() + n + 2, gamma);
      by_suffix.back()->push(row.data());
    }
    if (n > 1) {
      std::copy_n(context.begin(), n - 1, row.begin());
      put(row.data() + n - 1, gamma);
      backoffs.back()->push(row.data());
    }
    words.clear();
  };
  in.rewind();
  while (in.next()) {
    const uint32_t* row = in.row();
    if (!std::equal(row, row + n - 1, context.begin())) {
      close();
      std::copy_n(row, n - 1, context.begin());
    }
    words.emplace_back(row[n - 1], get(row + n));
  }
  close();
  by_context[n - 1].reset();
}

// Pass 3: interpolation, and the model file.
void NgramTrainer::State::mix(const fs::path& model, bool overwrite) {
  // <unk> and <s> are unigrams without counts.
  const double uniform = 1 / static_cast<double>(vocabulary.words().size() - 1);  // with <unk>, without <s>
  std::array<uint32_t, 5> unknown{kUnknownWord}, begin{kBeginWord};
  put(unknown.data() + 1, 0.);
  put(unknown.data() + 3, unigram_gamma);
  put(begin.data() + 1, 1.);
  put(begin.data() + 3, 0.);
  by_suffix[0]->push(unknown.data());
  by_suffix[0]->push(begin.data());
  std::vector<bool> has(backoffs.size());
  for (size_t n = 0; n < backoffs.size(); ++n) {
    backoffs[n]->rewind();
    has[n] = backoffs[n]->next();
  }
  NgramWriter writer(options.scratch, options.order, options.unit);
  std::array<double, kMaxOrder + 1> prob{uniform};
  walk_orders(by_suffix, [&](int order_of_row, const uint32_t* row) {
    const auto n = static_cast<size_t>(order_of_row);
    prob[n] = get_double(row + n) + get_double(row + n + 2) * prob[n - 1];
    double backoff = 1;
    if (n <= backoffs.size() && has[n - 1] && std::equal(row, row + n, backoffs[n - 1]->row())) {
      backoff = get_double(backoffs[n - 1]->row() + n);
      has[n - 1] = backoffs[n - 1]->next();
    }
    writer.add(order_of_row, row[n - 1], static_cast<float>(std::min(0., portable_log10(prob[n]))),
               static_cast<float>(portable_log10(backoff)));
  });
  check(std::none_of(has.begin(), has.end(), [](bool more) { return more; }), Code::bug,
        "[ngram] a context that is no n-gram");
  writer.finish(vocabulary, model, overwrite);
}

NgramTrainer::NgramTrainer(NgramOptions options) : state_(std::make_unique<State>(std::move(options))) {}
NgramTrainer::~NgramTrainer() = default;

void NgramTrainer::add(std::string_view text) {
  for_each_sentence(text, [&](std::string_view line) { state_->add_sentence(line); });
}

void NgramTrainer::finish(const fs::path& model, bool overwrite) {
  State& s = *state_;
  check(s.counts != nullptr, Code::bug, "[ngram] finished already");
  check(s.vocabulary.words().size() > 3, Code::input, "[ngram] the text holds no words");
  s.adjust();
  for (size_t n = 1; n <= s.order; ++n) s.divide(n);
  s.mix(model, overwrite);
}

}  // namespace llmctl
