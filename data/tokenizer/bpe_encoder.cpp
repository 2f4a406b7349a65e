// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer/bpe_encoder.h"

#include <algorithm>
#include <bit>

#include "kernels/error.h"

namespace llmctl {

namespace {

// Whether a byte is not ASCII.
bool has_high(std::string_view text) {
  uint64_t all = 0, word = 0;
  size_t at = 0;
  for (; at + 8 <= text.size(); at += 8) {
    std::memcpy(&word, text.data() + at, 8);
    all |= word;
  }
  for (; at < text.size(); ++at) all |= static_cast<uint64_t>(static_cast<uint8_t>(text[at]));
  return all & 0x8080808080808080u;
}

}  // namespace

std::unique_ptr<const BpeEncoder> BpeEncoder::make(const Bpe& bpe, kn::Isa isa) {
  constexpr int32_t kMostSymbols = (1 << 21) - 1, kMostRanks = PairRanks::kNone;
  bool fits = bpe.byte_level;
  for (const int32_t id : bpe.byte_ids) fits = fits && id >= 0 && id < kMostSymbols;
  bpe.merges.for_each([&](int32_t left, int32_t right, const Merge& m) {
    fits = fits && left < kMostSymbols && right < kMostSymbols && m.id < kMostSymbols && m.rank < kMostRanks;
  });
  if (!fits) return nullptr;
  return std::unique_ptr<const BpeEncoder>(new BpeEncoder(bpe, isa));
}

BpeEncoder::BpeEncoder(const Bpe& bpe, kn::Isa isa) : bpe_(bpe), merge_(pair_mergers(isa)) {
  fill_pairs();
  fill_pieces();
}

void BpeEncoder::fill_pairs() {
  size_t merges = 0;
  int32_t ranks = 0;
  bpe_.merges.for_each([&](int32_t, int32_t, const Merge& m) {
    ++merges;
    ranks = std::max(ranks, m.rank + 1);
  });
  symbols_.assign(bpe_.byte_ids.begin(), bpe_.byte_ids.end());
  joined_ = HugeArray<uint32_t>(static_cast<size_t>(ranks), 0);
  slots_ = HugeArray<uint64_t>(std::bit_ceil(std::max<size_t>(4, merges * 2)), ~uint64_t{0});
  pairs_ = {.slots = slots_.data(), .joined = joined_.data(), .symbols = symbols_.data()};
  pairs_.shift = 64 - std::countr_zero(slots_.size());
  pairs_.mask = slots_.size() - 1;
  bpe_.merges.for_each([&](int32_t left, int32_t right, const Merge& m) {
    joined_[static_cast<size_t>(m.rank)] = static_cast<uint32_t>(m.id);
    const uint64_t key = PairRanks::key(static_cast<uint64_t>(left), static_cast<uint64_t>(right));
    uint64_t slot = pairs_.home(key);
    while (slots_[slot] != ~uint64_t{0}) slot = (slot + 1) & pairs_.mask;  // places of a bucket in order
    slots_[slot] = key | static_cast<uint64_t>(m.rank);
  });
  byte_ranks_ = HugeArray<uint32_t>(65536, 0);
  for (size_t a = 0; a < 256; ++a)
    for (size_t b = 0; b < 256; ++b) byte_ranks_[a * 256 + b] = pairs_.rank(symbols_[a], symbols_[b]);
  pairs_.bytes = byte_ranks_.data();
  for (size_t r = 0; r < joined_.size(); ++r)
    if (joined_[r] != joined_[0] + r) return;
  pairs_.joined = nullptr;  // ids in the order of the merges: no need to look
  pairs_.first_joined = joined_.size() ? joined_[0] : 0;
}

void BpeEncoder::add_front(const PieceEntry& entry) {
  PieceEntry& place = front_[entry.key.hash()];
  const bool lower = place.key.high == 0 || (entry.ids[0] & 0xFFFFFF) < (place.ids[0] & 0xFFFFFF);
  if (lower) place = entry;
}

void BpeEncoder::fill_pieces() {
  constexpr size_t kCharacters = 0x10000 - 0x800;
  size_t count = kCharacters;
  bpe_.ids.for_each([&](std::string_view bytes, int32_t) { count += bytes.size() - 1 < kLongestKey; });
  pieces_ = PieceIds(count);
  front_ = PieceFront(kMostInFront);
  bpe_.ids.for_each([&](std::string_view bytes, int32_t id) {
    if (!bytes.empty()) add_piece(bytes, id);
  });
  fill_characters();
}

void BpeEncoder::add_piece(std::string_view bytes, int32_t id) {
  borders_.add(bytes);
  if (bytes.size() > kLongestKey) {
    std::vector<int32_t> ids(bytes.size());
    if (!bpe_.ignore_merges && encode_one(bytes, ids.data()) != ids.data() + 1) return;
    longs_.add(bytes, id);
    longest_ = std::max(longest_, bytes.size());
    return;
  }
  char padded[16] = {};
  std::memcpy(padded, bytes.data(), bytes.size());
  int32_t ids[kLongestKey] = {id};
  const size_t n = bpe_.ignore_merges ? 1 : static_cast<size_t>(encode_one(bytes, ids) - ids);
  if (n > kMostInline) return;
  const PieceEntry entry = PieceEntry::of(piece_key(padded, bytes.size()), ids, n);
  pieces_.add(entry);
  if (n == 1) add_front(entry);
}

void BpeEncoder::fill_characters() {
  for (uint32_t point = 0x800; point < 0x10000; ++point) {
    const char bytes[16] = {static_cast<char>(0xE0 | point >> 12),
                            static_cast<char>(0x80 | (point >> 6 & 63)),
                            static_cast<char>(0x80 | (point & 63))};
    const PieceKey key = piece_key(bytes, 3);
    if (pieces_.find(key, key.hash())) continue;
    int32_t ids[3];
    pieces_.add(PieceEntry::of(key, ids, static_cast<size_t>(encode_one({bytes, 3}, ids) - ids)));
  }
}

int32_t* BpeEncoder::encode_one(std::string_view piece, int32_t* out) const {
  if (piece.size() <= static_cast<size_t>(kLongestMerge))
    return out + merge_.one(pairs_, reinterpret_cast<const uint8_t*>(piece.data()),
                            static_cast<int64_t>(piece.size()), out);
  std::vector<int32_t> symbols;
  bpe_.encode(piece, symbols);
  return std::copy(symbols.begin(), symbols.end(), out);
}

// ---------------------------------------------------------------- text to ids

// What is known of the pieces at hand.
struct BpeEncoder::Batch {
  static constexpr size_t kMost = 512;
  PieceCache* cache = nullptr;
  const PieceFront* front = nullptr;
  PieceKey keys[kMost];
  uint64_t hashes[kMost];
  const PieceEntry* found[kMost];  // null: neither a key nor ids of an entry could hold it
  uint16_t missed[kMost];          // pieces that the front does not have
  size_t misses = 0, merges = 0;
  ShortMerge merge[kMost];
  uint16_t merged[kMost];  // which pieces those are
  int32_t merged_ids[kMost][kShortMerge];
  PieceEntry entries[kMost];  // of merged pieces
};

void BpeEncoder::look_up(std::string_view text, uint32_t begin, const uint32_t* ends, size_t count,
                         Batch& batch) const {
  const PieceFront& front = *batch.front;
  size_t misses = 0;
  for (size_t i = 0; i < count; begin = ends[i++]) {
    const size_t size = std::min<size_t>(ends[i] - begin, kLongestKey + 1);
    if (__builtin_expect(text.size() - begin >= 16, 1)) {
      batch.keys[i] = piece_key(text.data() + begin, size);
    } else {
      char padded[16] = {};
      std::memcpy(padded, text.data() + begin, std::min<size_t>(size, text.size() - begin));
      batch.keys[i] = piece_key(padded, size);
    }
    batch.hashes[i] = batch.keys[i].hash();
  }
  for (size_t i = 0; i < count; ++i) {
    const PieceEntry& entry = front[batch.hashes[i]];
    batch.found[i] = &entry;
    batch.missed[misses] = static_cast<uint16_t>(i);
    misses += !(entry.key == batch.keys[i]);
  }
  batch.misses = misses;
  for (size_t m = 0; m < misses; ++m) {
    const uint64_t hash = batch.hashes[batch.missed[m]];
    pieces_.prefetch(hash);
    if (batch.cache) batch.cache->prefetch(hash);
  }
}

const PieceEntry* BpeEncoder::find_behind(const PieceKey& key, uint64_t hash, const PieceCache* cache) const {
  const PieceEntry* found = pieces_.find(key, hash);
  return found || !cache ? found : cache->find(key, hash);
}

void BpeEncoder::find_missed(std::string_view text, uint32_t begin, const uint32_t* ends,
                             Batch& batch) const {
  batch.merges = 0;
  for (size_t m = 0; m < batch.misses; ++m) {
    const size_t i = batch.missed[m], from = i ? ends[i - 1] : begin, size = ends[i] - from;
    batch.found[i] = size > kLongestKey ? nullptr : find_behind(batch.keys[i], batch.hashes[i], batch.cache);
    if (batch.found[i] || size > kLongestKey) continue;
    batch.merged[batch.merges] = static_cast<uint16_t>(i);
    batch.merge[batch.merges] = {reinterpret_cast<const uint8_t*>(text.data()) + from,
                                 static_cast<int64_t>(size), batch.merged_ids[batch.merges]};
    ++batch.merges;
  }
  merge_.many(pairs_, batch.merge, static_cast<int64_t>(batch.merges));
  for (size_t m = 0; m < batch.merges; ++m) {
    const auto ids = static_cast<size_t>(batch.merge[m].count);
    if (ids > kMostInline) continue;
    const size_t i = batch.merged[m];
    batch.entries[m] = PieceEntry::of(batch.keys[i], batch.merged_ids[m], ids);
    batch.found[i] = &batch.entries[m];
  }
}

void BpeEncoder::encode_long(std::string_view piece, PieceCache* cache, std::vector<int32_t>& out) const {
  if (piece.size() <= longest_) {
    if (const auto whole = longs_.find(piece)) {
      out.push_back(*whole);
      return;
    }
  }
  const size_t before = out.size();
  const bool kept = cache && piece.size() > kLongestKey && piece.size() <= PieceCache::kLongestKept;
  PieceCache::Long* place = kept ? &cache->long_place(piece) : nullptr;
  if (place && place->size == piece.size() &&
      std::memcmp(place->bytes.data(), piece.data(), piece.size()) == 0) {
    out.insert(out.end(), place->ids.data(), place->ids.data() + place->count);
    return;
  }
  out.resize(before + piece.size());
  out.resize(static_cast<size_t>(encode_one(piece, out.data() + before) - out.data()));
  const size_t count = out.size() - before;
  if (!place || count > PieceCache::kMostKept) return;
  place->size = static_cast<uint32_t>(piece.size());
  place->count = static_cast<uint32_t>(count);
  std::memcpy(place->bytes.data(), piece.data(), piece.size());
  std::copy(out.begin() + static_cast<ptrdiff_t>(before), out.end(), place->ids.data());
}

void BpeEncoder::encode_pieces(std::string_view text, uint32_t begin, const uint32_t* ends, size_t count,
                               Batch& batch, std::vector<int32_t>& out) const {
  look_up(text, begin, ends, count, batch);
  find_missed(text, begin, ends, batch);
  int32_t ids[Batch::kMost * kMostInline];
  int32_t* to = ids;
  for (size_t i = 0; i < count; ++i) {
    if (__builtin_expect(batch.found[i] != nullptr, 1)) {
      to += batch.found[i]->copy(to);
      continue;
    }
    out.insert(out.end(), ids, to);
    to = ids;
    const uint32_t from = i ? ends[i - 1] : begin;
    encode_long(text.substr(from, ends[i] - from), batch.cache, out);
  }
  out.insert(out.end(), ids, to);
  if (!batch.cache) return;
  for (size_t m = 0; m < batch.merges; ++m)
    if (batch.found[batch.merged[m]]) batch.cache->put(batch.entries[m], batch.hashes[batch.merged[m]]);
  for (size_t m = 0; m < batch.misses; ++m) {
    const size_t i = batch.missed[m];
    if (batch.found[i]) batch.cache->front()[batch.hashes[i]] = *batch.found[i];
  }
}

void BpeEncoder::encode_cut(std::string_view text, uint32_t begin, const uint32_t* ends, size_t count,
                            Batch& batch, std::vector<int32_t>& out) const {
  if (!has_high(text.substr(begin, ends[count - 1] - begin)) && count <= Batch::kMost)
    return encode_pieces(text, begin, ends, count, batch, out);
  uint32_t cuts[Batch::kMost];
  uint32_t first = begin, from = begin;
  size_t n = 0;
  const auto cut = [&](uint32_t at) {
    cuts[n++] = at;
    if (n < Batch::kMost) return;
    encode_pieces(text, first, cuts, n, batch, out);
    first = at;
    n = 0;
  };
  for (size_t i = 0; i < count; from = ends[i++]) {
    const uint32_t to = ends[i];
    for (size_t at = size_t{from} + 3; at + 3 <= to; ++at)
      if (borders_.may_cut(text.data(), from, at, to))
        cut(static_cast<uint32_t>(from = static_cast<uint32_t>(at)));
    cut(to);
  }
  if (n) encode_pieces(text, first, cuts, n, batch, out);
}

void BpeEncoder::encode(std::string_view text, bool at_start, const PreTokenizer& pre, PieceCache* cache,
                        std::vector<int32_t>& out) const {
  Batch batch;
  batch.cache = cache;
  batch.front = cache ? &cache->front() : &front_;
  if (!pre.splitter()) {
    pre.for_each_piece(text, at_start, [&](std::string_view piece) {
      check(piece.size() < UINT32_MAX, Code::input, "[tokenizer] a piece of 4 GiB");
      const auto end = static_cast<uint32_t>(piece.size());
      encode_cut(piece, 0, &end, 1, batch, out);
    });
    return;
  }
  out.reserve(out.size() + text.size() / 3 + 64);
  uint32_t ends[Splitter::kBatch + 8];
  for (size_t at = 0; at < text.size();) {
    const size_t count = pre.splitter()->cut(text, at, ends);
    encode_cut(text.substr(at), 0, ends, count, batch, out);
    at += ends[count - 1];
  }
}

}  // namespace llmctl
