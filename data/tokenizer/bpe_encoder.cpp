// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer/bpe_encoder.h"

#include <algorithm>
#include <bit>

#include "kernels/error.h"

namespace llmctl {

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

BpeEncoder::BpeEncoder(const Bpe& bpe, kn::Isa isa) : bpe_(bpe), merge_(pair_merger(isa)) {
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

void BpeEncoder::fill_pieces() {
  size_t count = 0;
  for (const auto& [bytes, id] : bpe_.ids) count += !bytes.empty() && bytes.size() <= kLongestKey;
  pieces_ = PieceIds(count);
  for (const auto& [bytes, id] : bpe_.ids) {
    if (bytes.empty()) continue;
    if (bytes.size() > kLongestKey) {
      std::vector<int32_t> ids(bytes.size());
      if (!bpe_.ignore_merges && encode_one(bytes, ids.data()) != ids.data() + 1) continue;
      longs_.emplace(bytes, id);
      longest_ = std::max(longest_, bytes.size());
      continue;
    }
    char padded[16] = {};
    std::memcpy(padded, bytes.data(), bytes.size());
    int32_t ids[kLongestKey] = {id};
    const size_t n = bpe_.ignore_merges ? 1 : static_cast<size_t>(encode_one(bytes, ids) - ids);
    if (n <= kMostInline) pieces_.add(PieceEntry::of(piece_key(padded, bytes.size()), ids, n));
  }
}

int32_t* BpeEncoder::encode_one(std::string_view piece, int32_t* out) const {
  if (piece.size() <= static_cast<size_t>(kLongestMerge))
    return out + merge_(pairs_, reinterpret_cast<const uint8_t*>(piece.data()),
                        static_cast<int64_t>(piece.size()), out);
  std::vector<int32_t> symbols;
  bpe_.encode(piece, symbols);
  return std::copy(symbols.begin(), symbols.end(), out);
}

int32_t* BpeEncoder::encode_long(std::string_view piece, PieceCache* cache, int32_t* out) const {
  if (piece.size() <= longest_) {
    if (const auto whole = longs_.find(piece); whole != longs_.end()) {
      *out = whole->second;
      return out + 1;
    }
  }
  if (!cache || piece.size() > PieceCache::kLongestKept) return encode_one(piece, out);
  PieceCache::Long& place = cache->long_place(piece);
  if (place.size == piece.size() && std::memcmp(place.bytes.data(), piece.data(), piece.size()) == 0)
    return std::copy_n(place.ids.data(), place.count, out);
  int32_t* end = encode_one(piece, out);
  if (end - out > static_cast<ptrdiff_t>(PieceCache::kMostKept)) return end;
  place.size = static_cast<uint32_t>(piece.size());
  place.count = static_cast<uint32_t>(end - out);
  std::memcpy(place.bytes.data(), piece.data(), piece.size());
  std::copy(out, end, place.ids.data());
  return end;
}

int32_t* BpeEncoder::encode_missed(std::string_view piece, const PieceKey& key, uint64_t hash,
                                   PieceCache* cache, int32_t* out) const {
  if (!cache) return encode_one(piece, out);
  if (const PieceEntry* known = cache->find(key, hash)) return out + known->copy(out);
  int32_t* end = encode_one(piece, out);
  if (end - out <= static_cast<ptrdiff_t>(kMostInline))
    cache->put(PieceEntry::of(key, out, static_cast<size_t>(end - out)), hash);
  return end;
}

// Three passes over a few pieces, so that the lines of the tables are on their way when they are wanted.
int32_t* BpeEncoder::encode_pieces(std::string_view text, const uint32_t* ends, size_t count,
                                   PieceCache* cache, int32_t* out) const {
  constexpr size_t kAhead = 32;
  PieceKey keys[kAhead];
  uint64_t hashes[kAhead];
  const PieceEntry* found[kAhead];
  uint32_t begin = 0;
  for (size_t done = 0; done < count; done += kAhead) {
    const size_t n = std::min(kAhead, count - done);
    uint32_t at = begin;
    for (size_t i = 0; i < n; at = ends[done + i], ++i) {
      const size_t size = std::min<size_t>(ends[done + i] - at, kLongestKey);
      if (text.size() - at >= 16) {
        keys[i] = piece_key(text.data() + at, size);
      } else {
        char padded[16] = {};
        std::memcpy(padded, text.data() + at, size);
        keys[i] = piece_key(padded, size);
      }
      hashes[i] = keys[i].hash();
      pieces_.prefetch(hashes[i]);
    }
    for (size_t i = 0; i < n; ++i) {
      found[i] = pieces_.find(keys[i], hashes[i]);
      if (cache && !found[i]) cache->prefetch(hashes[i]);
    }
    for (size_t i = 0; i < n; begin = ends[done + i], ++i) {
      const size_t size = ends[done + i] - begin;
      if (size > kLongestKey)
        out = encode_long(text.substr(begin, size), cache, out);
      else if (found[i])
        out += found[i]->copy(out);
      else
        out = encode_missed(text.substr(begin, size), keys[i], hashes[i], cache, out);
    }
  }
  return out;
}

void BpeEncoder::encode(std::string_view text, bool at_start, const PreTokenizer& pre, PieceCache* cache,
                        std::vector<int32_t>& out) const {
  const auto append = [&](std::string_view from, const uint32_t* ends, size_t count) {
    const size_t before = out.size();
    out.resize(before + ends[count - 1] + kMostInline);  // at most one id per byte
    const int32_t* end = encode_pieces(from, ends, count, cache, out.data() + before);
    out.resize(static_cast<size_t>(end - out.data()));
  };
  if (!pre.splitter()) {
    pre.for_each_piece(text, at_start, [&](std::string_view piece) {
      check(piece.size() < UINT32_MAX, Code::input, "[tokenizer] a piece of 4 GiB");
      const auto end = static_cast<uint32_t>(piece.size());
      append(piece, &end, 1);
    });
    return;
  }
  out.reserve(out.size() + text.size() / 3 + 64);
  uint32_t ends[Splitter::kBatch + 8];
  for (size_t at = 0; at < text.size();) {
    const size_t count = pre.splitter()->cut(text, at, ends);
    append(text.substr(at), ends, count);
    at += ends[count - 1];
  }
}

}  // namespace llmctl
