// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer/bpe_train.h"

#include <algorithm>
#include <queue>

#include "data/tokenizer/byte_level.h"
#include "data/tokenizer/tokenizer_files.h"

namespace llmctl {

PieceCounter::PieceCounter(const std::string& pattern) : cut_(pre_tokenizer_json(pattern)) {}

void PieceCounter::add(std::string_view text) {
  bytes_ += text.size();
  const Pieces pieces = cut_.cut(std::string(text), true);
  for (const Range& r : pieces.ranges) {
    const std::string_view piece = std::string_view(pieces.text).substr(r.begin, r.end - r.begin);
    const auto it = counts_.find(piece);
    if (it == counts_.end())
      counts_.emplace(std::string(piece), 1);
    else
      ++it->second;
  }
}

void PieceCounter::merge(const PieceCounter& other) {
  bytes_ += other.bytes_;
  for (const auto& [piece, count] : other.counts_) counts_[piece] += count;
}

std::vector<std::pair<std::string, int64_t>> PieceCounter::sorted() const {
  std::vector<std::pair<std::string, int64_t>> list(counts_.begin(), counts_.end());
  std::sort(list.begin(), list.end());
  return list;
}

namespace {

using Pair = uint64_t;  // left id in the high half: compares as (left, right)
Pair pair_of(int32_t left, int32_t right) {
  return (static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32) | static_cast<uint32_t>(right);
}

struct Waiting {
  int64_t count;
  Pair pair;
  uint32_t words;  // index into lists_: the words to visit
  bool operator<(const Waiting& o) const { return count != o.count ? count < o.count : pair > o.pair; }
};

class Learner {
 public:
  Learner(const PieceCounter& pieces, int64_t target, TrainedBpe& out) : out_(out), target_(target) {
    std::array<int32_t, 256> id_of_byte{};
    for (const uint8_t byte : bytes_in_alphabet_order()) {
      id_of_byte[byte] = static_cast<int32_t>(out_.tokens.size());
      token(std::string(1, static_cast<char>(byte)));
    }
    for (const auto& [piece, count] : pieces.sorted()) {
      std::vector<int32_t> word;
      for (const char c : piece) word.push_back(id_of_byte[static_cast<uint8_t>(c)]);
      words_.push_back(std::move(word));
      counts_.push_back(count);
    }
  }

  void run(const std::function<void(int64_t)>& progress) {
    if (static_cast<int64_t>(out_.tokens.size()) >= target_) return;
    count_all();
    while (static_cast<int64_t>(out_.tokens.size()) < target_ && !heap_.empty()) {
      Waiting top = heap_.top();
      heap_.pop();
      const int64_t now = pair_counts_[top.pair];
      if (now != top.count) {  // stale: other joins took some of them
        top.count = now;
        heap_.push(top);
        continue;
      }
      if (now < 1) break;
      join(top);
      if (progress) progress(static_cast<int64_t>(out_.tokens.size()));
    }
    keep_last_of_repeated_merges();
  }

 private:
  int32_t token(const std::string& bytes) {
    const auto [it, fresh] = ids_.try_emplace(bytes, static_cast<int32_t>(out_.tokens.size()));
    if (fresh) out_.tokens.push_back(bytes);
    return it->second;
  }

  void count_all() {
    for (uint32_t w = 0; w < words_.size(); ++w)
      for (size_t i = 0; i + 1 < words_[w].size(); ++i) change(words_[w][i], words_[w][i + 1], 1, w);
    offer_changed();
  }

  void change(int32_t left, int32_t right, int64_t by, uint32_t w) {
    const Pair pair = pair_of(left, right);
    pair_counts_[pair] += by * counts_[w];
    if (by < 0) return;
    std::vector<uint32_t>& list = changed_[pair];
    if (list.empty() || list.back() != w) list.push_back(w);
  }

  void offer_changed() {
    for (auto& [pair, list] : changed_) {
      const int64_t count = pair_counts_[pair];
      if (count <= 0) continue;
      heap_.push({count, pair, static_cast<uint32_t>(lists_.size())});
      lists_.push_back(std::move(list));
    }
    changed_.clear();
  }

  void join(const Waiting& top) {
    const auto left = static_cast<int32_t>(top.pair >> 32), right = static_cast<int32_t>(top.pair);
    const int32_t joined = token(out_.tokens[left] + out_.tokens[right]);
    out_.merges.emplace_back(left, right);
    const std::vector<uint32_t> visit = std::move(lists_[top.words]);
    for (const uint32_t w : visit) join_in(w, left, right, joined);
    offer_changed();
  }

  // Counts move only at the two neighbours; the joined pair's own count is left as it is, as the
  // reference does.
  void join_in(uint32_t w, int32_t left, int32_t right, int32_t joined) {
    std::vector<int32_t>& word = words_[w];
    size_t kept = 0;
    for (size_t i = 0; i < word.size(); ++i) {
      if (word[i] != left || i + 1 >= word.size() || word[i + 1] != right) {
        word[kept++] = word[i];
        continue;
      }
      if (kept > 0) {
        change(word[kept - 1], left, -1, w);
        change(word[kept - 1], joined, 1, w);
      }
      if (i + 2 < word.size()) {
        change(right, word[i + 2], -1, w);
        change(joined, word[i + 2], 1, w);
      }
      word[kept++] = joined;
      ++i;
    }
    word.resize(kept);
  }

  // Two ways to spell one token can bring a pair back; its last rank is the one that counts.
  void keep_last_of_repeated_merges() {
    std::unordered_map<Pair, size_t> last;
    for (size_t i = 0; i < out_.merges.size(); ++i)
      last[pair_of(out_.merges[i].first, out_.merges[i].second)] = i;
    std::vector<std::pair<int32_t, int32_t>> merges;
    for (size_t i = 0; i < out_.merges.size(); ++i)
      if (last[pair_of(out_.merges[i].first, out_.merges[i].second)] == i) merges.push_back(out_.merges[i]);
    out_.merges = std::move(merges);
  }

  TrainedBpe& out_;
  int64_t target_;
  StringIds ids_;
  std::vector<std::vector<int32_t>> words_;
  std::vector<int64_t> counts_;
  std::unordered_map<Pair, int64_t> pair_counts_;
  std::unordered_map<Pair, std::vector<uint32_t>> changed_;
  std::vector<std::vector<uint32_t>> lists_;
  std::priority_queue<Waiting> heap_;
};

}  // namespace

TrainedBpe train_bpe(const PieceCounter& pieces, const BpeTrainOptions& options,
                     const std::function<void(int64_t)>& progress) {
  const auto specials = static_cast<int64_t>(special_tokens(options.vocab_size).size());
  TrainedBpe out;
  Learner(pieces, options.vocab_size - specials, out).run(progress);
  return out;
}

}  // namespace llmctl
