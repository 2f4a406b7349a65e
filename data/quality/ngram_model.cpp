// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <cstring>

#include "data/quality/ngram_file.h"
#include "data/quality/ngram_state.h"
#include "data/quality/portable_math.h"
#include "data/quality/words.h"

namespace llmctl {

double NgramScore::perplexity() const {
  return tokens == 0 ? 0 : portable_exp10(-log10 / static_cast<double>(tokens));
}

NgramModel::State::State(const fs::path& path) : map(path) {
  const std::string who = "[ngram] " + path.string();
  const auto* bytes = reinterpret_cast<const char*>(map.data());
  NgramHeader header;
  const NgramHeader expected;
  check(map.size() >= sizeof header, Code::input, who, ": ", map.size(), " bytes, no n-gram model");
  std::memcpy(&header, bytes, sizeof header);
  check(std::memcmp(header.magic, expected.magic, sizeof header.magic) == 0 && header.version == 1,
        Code::input, who, ": no n-gram model of version 1");
  const std::string_view all(bytes + sizeof header, map.size() - sizeof header);
  check(header.json_bytes <= all.size() && digest_of(all) == Digest{header.digest_low, header.digest_high},
        Code::input, who, ": damaged, its digest is another");
  const Json json = parse_json(all.substr(0, header.json_bytes), path.string());
  const auto number = [&](const Json& value) {
    check(value.is_number_unsigned() && value.get<uint64_t>() < uint64_t{1} << 48, Code::input, who,
          ": no count");
    return value.get<uint64_t>();
  };
  check(json.is_object() && json.contains("order") && json.contains("ngrams") && json.contains("words") &&
            json.contains("unit") && json.at("ngrams").is_array(),
        Code::input, who, ": its header lacks a field");
  order = static_cast<int>(number(json.at("order")));
  check(order >= 1 && order <= kMaxOrder && json.at("ngrams").size() == static_cast<size_t>(order),
        Code::input, who, ": order ", order, " and ", json.at("ngrams").size(), " counts");
  unit = json.at("unit") == "bytes" ? NgramUnit::bytes : NgramUnit::words;
  const char* at = all.data() + header.json_bytes;
  const char* end = all.data() + all.size();
  const auto section = [&](uint64_t size) {
    check(size <= static_cast<uint64_t>(end - at), Code::input, who, ": cut short");
    const char* here = at;
    at += size;
    return here;
  };
  for (int n = 0; n < order; ++n) {
    counts.push_back(number(json.at("ngrams")[static_cast<size_t>(n)]));
    nodes.push_back(section((counts.back() + 1) * sizeof(NgramNode)));
  }
  words = number(json.at("words"));
  check(words == counts[0] || words >= kEndWord, Code::input, who, ": ", words, " words");
  index = section(words * 16);
  offsets = section((words + 1) * 8);
  text = std::string_view(at, static_cast<size_t>(end - at));
}

NgramNode NgramModel::State::node(int n, uint64_t i) const {
  NgramNode result;
  std::memcpy(&result, nodes[static_cast<size_t>(n) - 1] + i * sizeof result, sizeof result);
  return result;
}

std::string_view NgramModel::State::word(uint32_t id) const {
  uint64_t ends[2];
  std::memcpy(ends, offsets + (uint64_t{id} - 1) * 8, sizeof ends);
  return ends[0] <= ends[1] && ends[1] <= text.size() ? text.substr(ends[0], ends[1] - ends[0])
                                                      : std::string_view();
}

uint32_t NgramModel::State::id(std::string_view token) const {
  const uint64_t hash = hash_bytes(token);
  const auto entry = [&](uint64_t i) {
    std::pair<uint64_t, uint32_t> e;
    std::memcpy(&e.first, index + i * 16, 8);
    std::memcpy(&e.second, index + i * 16 + 8, 4);
    return e;
  };
  uint64_t low = 0, high = words;
  while (low < high) {
    const uint64_t middle = (low + high) / 2;
    if (entry(middle).first < hash)
      low = middle + 1;
    else
      high = middle;
  }
  for (; low < words && entry(low).first == hash; ++low) {
    const uint32_t found = entry(low).second;
    if (found > kEndWord && found <= words && word(found) == token) return found;
  }
  return kUnknownWord;
}

// A child by its word among those of node i of order n; where it is, or counts of the next order.
uint64_t NgramModel::State::child(int n, uint64_t i, uint32_t word_id) const {
  const uint64_t none = counts[static_cast<size_t>(n)];
  uint64_t low = node(n, i).child(), high = node(n, i + 1).child();
  if (low > high || high > none) return none;
  const uint64_t end = high;
  while (low < high) {
    const uint64_t middle = (low + high) / 2;
    if (node(n + 1, middle).word < word_id)
      low = middle + 1;
    else
      high = middle;
  }
  return low < end && node(n + 1, low).word == word_id ? low : none;
}

// log10 p(history[0] | history[1], history[2], ...), newest first. `backoffs[k]` are those of the context of
// k words before it, and become those of the context that ends with this word.
double NgramModel::State::step(const uint32_t* history, size_t length, Backoffs& backoffs) const {
  Backoffs next{};
  uint64_t i = history[0] - 1;
  if (i >= counts[0]) return 0;
  NgramNode found = node(1, i);
  double prob = found.log10_prob;
  size_t matched = 1;
  next[1] = found.log10_backoff;
  while (matched < length && matched < static_cast<size_t>(order)) {
    const auto n = static_cast<int>(matched);
    i = child(n, i, history[matched]);
    if (i == counts[matched]) break;
    found = node(n + 1, i);
    prob = found.log10_prob;
    next[++matched] = found.log10_backoff;
  }
  // Contexts longer than the one that was found with this word are backed off from.
  for (size_t k = matched; k < kMaxOrder; ++k) prob += backoffs[k];
  backoffs = next;
  backoffs[static_cast<size_t>(order)] = 0;
  return prob;
}

NgramModel::NgramModel(const fs::path& model) : state_(std::make_shared<State>(model)) {}
int NgramModel::order() const {
  return state_->order;
}
NgramUnit NgramModel::unit() const {
  return state_->unit;
}
uint64_t NgramModel::ngrams(int n) const {
  return state_->counts.at(static_cast<size_t>(n) - 1);
}

NgramScore NgramModel::score(std::string_view text) const {
  const State& s = *state_;
  NgramScore score;
  std::vector<uint32_t> ids;  // of a line, newest first when read from its end
  std::array<uint32_t, kMaxOrder> history;
  for_each_sentence(text, [&](std::string_view line) {
    ids.assign(1, kBeginWord);
    for_each_token(line, s.unit, [&](std::string_view token) { ids.push_back(s.id(token)); });
    ids.push_back(kEndWord);
    State::Backoffs backoffs{};
    if (s.order > 1 && s.counts[0] >= kBeginWord) backoffs[1] = s.node(1, kBeginWord - 1).log10_backoff;
    for (size_t i = 1; i < ids.size(); ++i) {
      const size_t length = std::min<size_t>(i + 1, static_cast<size_t>(s.order));
      for (size_t k = 0; k < length; ++k) history[k] = ids[i - k];
      score.log10 += s.step(history.data(), length, backoffs);
      score.unknown += ids[i] == kUnknownWord;
      ++score.tokens;
    }
  });
  return score;
}

}  // namespace llmctl
