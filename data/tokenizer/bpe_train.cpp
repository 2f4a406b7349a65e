// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer/bpe_train.h"

#include <algorithm>
#include <unordered_map>

#include "data/tokenizer/bpe.h"
#include "data/tokenizer/bpe_words.h"
#include "data/tokenizer/byte_level.h"
#include "data/tokenizer/pair_table.h"
#include "data/tokenizer/tokenizer_files.h"

namespace llmctl {

namespace {

constexpr uint32_t kLongest = 65536;  // bytes of a token, the most that is read

// A pair on the heap with the places where it stood when it was put there, ascending.
struct Waiting {
  int64_t count;
  Pair pair;
  uint64_t first;  // in the array of places
  uint32_t size;
};

uint32_t left_of(Pair pair) {
  return static_cast<uint32_t>(pair >> 32);
}
uint32_t right_of(Pair pair) {
  return static_cast<uint32_t>(pair);
}

// What one join does to the pairs of its token with the tokens on one side of it, by their ids.
class Side {
 public:
  struct Neighbour {
    int64_t gained = 0, lost = 0;  // by its pair with the new token, by its pair with what that replaced
    uint32_t places = 0;
    uint64_t first = 0;
  };
  void gain(uint32_t id, int64_t count, uint32_t place) {
    Neighbour& n = at(id);
    n.gained += count;
    ++n.places;
    met_.emplace_back(id, place);
  }
  void lose(uint32_t id, int64_t count) { at(id).lost += count; }
  // Appends the places of each neighbour to `places`, neighbour after neighbour.
  void lay_out(ScratchArray<uint32_t>& places) {
    uint64_t at = places.size();
    for (const uint32_t id : ids_) {
      by_id_[id].first = at;
      at += by_id_[id].places;
    }
    while (places.size() < at) places.push_back(0);
    for (const auto& [id, place] : met_) places[by_id_[id].first++] = place;
    for (const uint32_t id : ids_) by_id_[id].first -= by_id_[id].places;
  }
  const std::vector<uint32_t>& ids() const { return ids_; }
  const Neighbour& of(uint32_t id) const { return by_id_[id]; }
  void clear() {
    for (const uint32_t id : ids_) by_id_[id] = {};
    ids_.clear();
    met_.clear();
  }

 private:
  Neighbour& at(uint32_t id) {
    if (id >= by_id_.size()) by_id_.resize(id + 1024);
    Neighbour& n = by_id_[id];
    if (n.gained == 0 && n.lost == 0) ids_.push_back(id);
    return n;
  }
  std::vector<Neighbour> by_id_;
  std::vector<uint32_t> ids_;  // in order of their first place
  std::vector<std::pair<uint32_t, uint32_t>> met_;
};

struct ByteIds {
  uint32_t of[256];
  ByteIds() {
    uint32_t id = 0;
    for (const uint8_t byte : bytes_in_alphabet_order()) of[byte] = id++;
  }
};

class Learner {
 public:
  Learner(PieceCounter& pieces, const BpeTrainOptions& options, TrainedBpe& out)
      : out_(out),
        options_(options),
        words_(pieces, ByteIds().of, options.memory, options.folder),
        symbols_(words_.symbols()),
        pairs_(words_.folder()),
        places_(words_.folder()) {
    for (const uint8_t byte : bytes_in_alphabet_order()) token(std::string(1, static_cast<char>(byte)));
  }

  void run(int64_t target, const std::function<void(int64_t)>& progress) {
    if (static_cast<int64_t>(out_.tokens.size()) >= target) return;
    offer_pairs_of_bytes();
    const int64_t least = std::max<int64_t>(options_.min_frequency, 1);
    while (static_cast<int64_t>(out_.tokens.size()) < target && !heap_.empty()) {
      const Waiting top = pop();
      const int64_t now = pairs_.at(top.pair).count;
      if (now != top.count) {  // stale: other joins took some of them
        push({now, top.pair, top.first, top.size});
        continue;
      }
      if (now < least) break;
      if (lengths_[left_of(top.pair)] + lengths_[right_of(top.pair)] > kLongest) continue;
      join(top);
      if (progress) progress(static_cast<int64_t>(out_.tokens.size()));
    }
    keep_last_of_repeated_merges();
  }

 private:
  uint32_t token(const std::string& bytes) {
    const auto known = ids_.find(bytes);
    if (known) return static_cast<uint32_t>(*known);
    const size_t id = out_.tokens.size();
    ids_.add(bytes, static_cast<int32_t>(id));
    out_.tokens.push_back(bytes);
    lengths_.push_back(static_cast<uint32_t>(bytes.size()));
    return static_cast<uint32_t>(id);
  }

  // ---- the heap

  bool before(const Waiting& a, const Waiting& b) const {
    if (a.count != b.count || a.pair == b.pair) return a.count > b.count;
    if (options_.tie_break == TieBreak::ids) return a.pair < b.pair;
    const int left = out_.tokens[left_of(a.pair)].compare(out_.tokens[left_of(b.pair)]);
    return left != 0 ? left < 0 : out_.tokens[right_of(a.pair)] < out_.tokens[right_of(b.pair)];
  }
  void push(const Waiting& w) {
    heap_.push_back(w);
    std::push_heap(heap_.begin(), heap_.end(), [&](const auto& a, const auto& b) { return before(b, a); });
  }
  Waiting pop() {
    std::pop_heap(heap_.begin(), heap_.end(), [&](const auto& a, const auto& b) { return before(b, a); });
    const Waiting top = heap_.back();
    heap_.pop_back();
    return top;
  }
  void offer(Pair pair, uint64_t first, uint32_t size) {
    PairTable::Slot& slot = pairs_.at(pair);
    if (slot.count <= 0) return;
    slot.repeated |= slot.offered;
    slot.offered = true;
    push({slot.count, pair, first, size});
  }

  void offer_pairs_of_bytes() {
    struct Seen {
      int64_t count = 0;
      uint32_t places = 0;
      uint64_t first = 0;
    };
    std::vector<Seen> seen(256 * 256);
    const auto each = [&](auto&& body) {
      for (uint32_t p = 1; p + 1 < words_.places(); ++p)
        if (symbols_[p] != BpeWords::kSeparator && symbols_[p + 1] != BpeWords::kSeparator)
          body(p, seen[symbols_[p] * 256 + symbols_[p + 1]]);
    };
    BpeWords::Counts counts(words_);
    each([&](uint32_t p, Seen& s) {
      s.count += counts.at(p);
      ++s.places;
    });
    uint64_t at = 0;
    for (Seen& s : seen) {
      s.first = at;
      at += s.places;
    }
    places_.resize(at);
    each([&](uint32_t p, Seen& s) { places_[s.first++] = p; });
    for (uint32_t i = 0; i < seen.size(); ++i) {
      if (seen[i].places == 0) continue;
      const Pair pair = pair_of(i / 256, i % 256);
      pairs_.at(pair).count = seen[i].count;
      offer(pair, seen[i].first - seen[i].places, seen[i].places);
    }
  }

  // ---- one join

  void join(const Waiting& top) {
    const uint32_t left = left_of(top.pair), right = right_of(top.pair);
    const uint32_t joined = token(out_.tokens[left] + out_.tokens[right]);
    out_.merges.emplace_back(left, right);
    if (top.size == 0) return;
    BpeWords::Counts counts(words_);
    counts.seek(places_[top.first]);
    if (pairs_.at(top.pair).repeated) {
      for (const uint32_t p : all_in_words_of(top)) join_at(p, left, right, joined, counts);
    } else {
      for (uint64_t i = 0; i < top.size; ++i) join_at(places_[top.first + i], left, right, joined, counts);
    }
    for (const uint32_t id : before_.ids()) {
      pairs_.at(pair_of(id, left)).count -= before_.of(id).lost;
      pairs_.at(pair_of(id, joined)).count += before_.of(id).gained;
    }
    for (const uint32_t id : after_.ids()) {
      pairs_.at(pair_of(right, id)).count -= after_.of(id).lost;
      pairs_.at(pair_of(joined, id)).count += after_.of(id).gained;
    }
    before_.lay_out(places_);
    after_.lay_out(places_);
    for (const uint32_t id : before_.ids()) offer(pair_of(id, joined), before_.of(id));
    for (const uint32_t id : after_.ids()) offer(pair_of(joined, id), after_.of(id));
    before_.clear();
    after_.clear();
  }
  void offer(Pair pair, const Side::Neighbour& n) {
    if (n.places > 0) offer(pair, n.first, n.places);
  }

  // Counts move only at the two neighbours; the joined pair's own count is left as it is, as the reference
  // does. A place where the pair stands no longer is passed over.
  void join_at(uint32_t p, uint32_t left, uint32_t right, uint32_t joined, BpeWords::Counts& counts) {
    if (symbols_[p] != left) return;
    const uint32_t q = p + lengths_[left], next_place = q + lengths_[right];
    if (symbols_[q] != right) return;
    const int64_t count = counts.at(p);
    const uint32_t previous = symbols_[p - 1], next = symbols_[next_place];
    if (previous != BpeWords::kSeparator) {
      before_.lose(previous, count);
      before_.gain(previous, count, p - lengths_[previous]);
    }
    if (next != BpeWords::kSeparator) {
      after_.lose(next, count);
      // A second way to spell a token meets tokens that are it already.
      if (next == joined)
        before_.gain(joined, count, p);
      else
        after_.gain(next, count, p);
    }
    symbols_[q - 1] = symbols_[q] = BpeWords::kInside;
    symbols_[p] = symbols_[next_place - 1] = joined;
  }

  // When two entries of the heap speak of one pair, the reference joins it in whole words of either.
  std::vector<uint32_t> all_in_words_of(const Waiting& top) const {
    std::vector<uint32_t> all;
    for (uint64_t i = 0; i < top.size; ++i) {
      uint32_t p = places_[top.first + i];
      if (!all.empty() && p <= all.back()) continue;
      while (symbols_[p - 1] != BpeWords::kSeparator) --p;
      for (; symbols_[p] != BpeWords::kSeparator; p += lengths_[symbols_[p]])
        if (symbols_[p] == left_of(top.pair)) all.push_back(p);
    }
    return all;
  }

  // Two ways to spell one token can bring a pair back; its last rank is the one that counts.
  void keep_last_of_repeated_merges() {
    std::unordered_map<Pair, size_t> last;
    const auto pair_at = [&](size_t i) {
      const auto [left, right] = out_.merges[i];
      return pair_of(static_cast<uint32_t>(left), static_cast<uint32_t>(right));
    };
    for (size_t i = 0; i < out_.merges.size(); ++i) last[pair_at(i)] = i;
    std::vector<std::pair<int32_t, int32_t>> merges;
    for (size_t i = 0; i < out_.merges.size(); ++i)
      if (last[pair_at(i)] == i) merges.push_back(out_.merges[i]);
    out_.merges = std::move(merges);
  }

  TrainedBpe& out_;
  const BpeTrainOptions& options_;
  StringIds ids_;
  std::vector<uint32_t> lengths_;
  BpeWords words_;
  uint32_t* symbols_;
  PairTable pairs_;
  ScratchArray<uint32_t> places_;
  std::vector<Waiting> heap_;
  Side before_, after_;
};

}  // namespace

TieBreak tie_break_of(const std::string& name) {
  if (name == "ids") return TieBreak::ids;
  check(name == "bytes", Code::usage, "[tokenize] tie break '", name, "': use ids or bytes");
  return TieBreak::bytes;
}

TrainedBpe train_bpe(PieceCounter& pieces, const BpeTrainOptions& options,
                     const std::function<void(int64_t)>& progress) {
  const auto specials = static_cast<int64_t>(special_tokens(options.vocab_size).size());
  TrainedBpe out;
  Learner(pieces, options, out).run(options.vocab_size - specials, progress);
  return out;
}

}  // namespace llmctl
