// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer/string_ids.h"

#include <algorithm>
#include <cstring>

#include "kernels/error.h"

namespace llmctl {

namespace {

uint64_t mixed(uint64_t hash, uint64_t word) {
  const auto product = static_cast<unsigned __int128>(hash ^ word) * 0x9E3779B97F4A7C15u;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

uint64_t hash_of(std::string_view text) {
  uint64_t hash = 0xC2B2AE3D27D4EB4Fu ^ text.size(), word = 0;
  for (; text.size() > 8; text.remove_prefix(8)) {
    std::memcpy(&word, text.data(), 8);
    hash = mixed(hash, word);
  }
  word = 0;
  for (size_t i = 0; i < text.size(); ++i) word |= uint64_t{static_cast<uint8_t>(text[i])} << 8 * i;
  return mixed(mixed(hash, word), hash >> 7);
}

}  // namespace

size_t StringIds::slot_of(std::string_view text, uint64_t hash) const {
  const size_t mask = slots_.size() - 1;
  for (size_t slot = hash & mask;; slot = (slot + 1) & mask) {
    const uint64_t place = slots_[slot];
    if (place == 0) return slot;
    if ((place ^ hash) >> 32 == 0 && text_of(entries_[(place & UINT32_MAX) - 1]) == text) return slot;
  }
}

void StringIds::grow() {
  slots_ = HugeArray<uint64_t>(std::max<size_t>(16, slots_.size() * 2), 0);
  for (size_t i = 0; i < entries_.size(); ++i) {
    const std::string_view text = text_of(entries_[i]);
    const uint64_t hash = hash_of(text);
    slots_[slot_of(text, hash)] = (hash >> 32 << 32) | (i + 1);
  }
}

bool StringIds::add(std::string_view text, int32_t id) {
  check(text.size() < UINT32_MAX && entries_.size() < UINT32_MAX / 4, Code::input,
        "[tokenizer] a vocabulary of ", entries_.size(), " tokens, or a token of ", text.size(), " bytes");
  if (entries_.size() * 2 >= slots_.size()) grow();
  const uint64_t hash = hash_of(text);
  uint64_t& place = slots_[slot_of(text, hash)];
  if (place != 0) return false;
  place = (hash >> 32 << 32) | (entries_.size() + 1);
  entries_.push_back({bytes_.size(), static_cast<uint32_t>(text.size()), id});
  bytes_ += text;
  return true;
}

std::optional<int32_t> StringIds::find(std::string_view text) const {
  if (slots_.size() == 0) return std::nullopt;
  const uint64_t place = slots_[slot_of(text, hash_of(text))];
  if (place == 0) return std::nullopt;
  return entries_[(place & UINT32_MAX) - 1].id;
}

}  // namespace llmctl
