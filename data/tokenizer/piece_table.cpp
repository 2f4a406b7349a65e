// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer/piece_table.h"

#include <cstring>
#include <utility>

namespace llmctl {

namespace {

constexpr size_t kInline = 15;
constexpr size_t kSmallest = 1024;  // slots of a table

struct Key {
  uint64_t low, high;
};

// The bytes of a short piece and its length; a load of 16 where the text goes on that far.
Key key_of(std::string_view piece, const char* end) {
  const size_t n = piece.size();
  Key key{0, 0};
  if (piece.data() + 16 <= end) {
    std::memcpy(&key, piece.data(), 16);
    if (n <= 8) {
      key.low &= n == 8 ? ~uint64_t{0} : (uint64_t{1} << 8 * n) - 1;
      key.high = 0;
    } else {
      key.high &= (uint64_t{1} << 8 * (n - 8)) - 1;
    }
  } else {
    std::memcpy(&key, piece.data(), n);
  }
  key.high |= uint64_t{n} << 56;
  return key;
}

uint64_t mix(uint64_t low, uint64_t high) {
  const auto product =
      static_cast<unsigned __int128>(low ^ 0x9e3779b97f4a7c15U) * (high ^ 0xe7037ed1a0b428dbU);
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

uint64_t hash_of(std::string_view piece) {
  uint64_t hash = piece.size();
  size_t at = 0;
  for (; at + 8 <= piece.size(); at += 8) {
    uint64_t word = 0;
    std::memcpy(&word, piece.data() + at, 8);
    hash = mix(hash, word);
  }
  uint64_t word = 0;
  if (at < piece.size()) std::memcpy(&word, piece.data() + at, piece.size() - at);
  return mix(hash, word ^ 0xa0761d6478bd642fU);
}

// Tables are at most 5/8 full.
bool is_full(size_t used, size_t slots) {
  return used * 8 >= slots * 5;
}
size_t grown(size_t slots) {
  return slots == 0 ? kSmallest : slots * 2;
}

}  // namespace

void PieceTable::add(std::string_view piece, uint64_t count, const char* end) {
  if (piece.size() > kInline) return add_long(piece, count);
  if (is_full(shorts_, short_.size())) grow_short();
  const Key key = key_of(piece, end);
  const size_t mask = short_.size() - 1;
  for (size_t i = mix(key.low, key.high) & mask;; i = (i + 1) & mask) {
    Short& slot = short_[i];
    if (slot.low == key.low && slot.high == key.high) {
      slot.count += count;
      return;
    }
    if (slot.high != 0) continue;
    slot = {key.low, key.high, count};
    ++shorts_;
    return;
  }
}

void PieceTable::add_long(std::string_view piece, uint64_t count) {
  if (is_full(longs_, long_.size())) grow_long();
  const uint64_t hash = hash_of(piece);
  const size_t mask = long_.size() - 1;
  for (size_t i = hash & mask;; i = (i + 1) & mask) {
    Long& slot = long_[i];
    if (slot.count == 0) {
      check(piece.size() <= UINT32_MAX, Code::input, "[tokenize] a piece of ", piece.size(), " bytes");
      slot = {hash, arena_.size(), count, static_cast<uint32_t>(piece.size())};
      arena_ += piece;
      ++longs_;
      return;
    }
    if (slot.hash == hash && slot.size == piece.size() &&
        std::memcmp(arena_.data() + slot.offset, piece.data(), piece.size()) == 0) {
      slot.count += count;
      return;
    }
  }
}

void PieceTable::grow_short() {
  const ScratchArray<Short> old = std::exchange(short_, ScratchArray<Short>());
  short_.resize(grown(old.size()));
  const size_t mask = short_.size() - 1;
  for (size_t s = 0; s < old.size(); ++s) {
    if (old[s].high == 0) continue;
    size_t i = mix(old[s].low, old[s].high) & mask;
    while (short_[i].high != 0) i = (i + 1) & mask;
    short_[i] = old[s];
  }
}

void PieceTable::grow_long() {
  const ScratchArray<Long> old = std::exchange(long_, ScratchArray<Long>());
  long_.resize(grown(old.size()));
  const size_t mask = long_.size() - 1;
  for (size_t s = 0; s < old.size(); ++s) {
    if (old[s].count == 0) continue;
    size_t i = old[s].hash & mask;
    while (long_[i].count != 0) i = (i + 1) & mask;
    long_[i] = old[s];
  }
}

uint64_t PieceTable::bytes() const {
  return short_.size() * sizeof(Short) + long_.size() * sizeof(Long) + arena_.capacity();
}

uint64_t PieceTable::bytes_with(size_t pieces, size_t text) const {
  uint64_t bytes = arena_.size() + text;
  // While a table grows, the old one is there too.
  bytes += short_.size() * sizeof(Short) * (is_full(shorts_ + pieces, short_.size()) ? 3 : 1);
  bytes += long_.size() * sizeof(Long) * (is_full(longs_ + pieces, long_.size()) ? 3 : 1);
  return bytes;
}

void PieceTable::each(const Sink& sink) const {
  for (size_t i = 0; i < short_.size(); ++i) {
    const Short& slot = short_[i];
    if (slot.high == 0) continue;
    sink({reinterpret_cast<const char*>(&slot), slot.high >> 56}, slot.count);
  }
  for (size_t i = 0; i < long_.size(); ++i)
    if (long_[i].count != 0) sink({arena_.data() + long_[i].offset, long_[i].size}, long_[i].count);
}

void PieceTable::clear() {
  *this = PieceTable();
}

}  // namespace llmctl
