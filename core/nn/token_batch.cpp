// SPDX-License-Identifier: Apache-2.0
#include "core/nn/token_batch.h"

#include <algorithm>
#include <cstring>

namespace llmctl {

BatchBuilder::BatchBuilder(Arena& arena, int64_t max_tokens, int64_t pages, int64_t vocab, int64_t piece)
    : arena_(&arena), pages_(pages), vocab_(vocab), piece_(piece ? piece : max_tokens) {
  ids_ = arena.take(DType::i32, {max_tokens});
  positions_ = arena.take(DType::i32, {max_tokens});
  targets_ = arena.take(DType::i32, {max_tokens});
  slots_ = arena.take(DType::i64, {max_tokens});
  // Every document has a token and every page one at least.
  sequence_rows_ = arena.take(DType::i32, {max_tokens, 4});
  page_table_ = arena.take(DType::i32, {max_tokens});
  batch_.pages = pages;
}

void BatchBuilder::clear() {
  tokens_ = sequences_ = table_entries_ = group_pages_ = 0;
  pieces_.clear();
}

BatchBuilder::Piece& BatchBuilder::piece_of(int64_t begin) {
  const int64_t index = begin / piece_;
  if (index == pieces()) pieces_.push_back({{index * piece_, 0}, {sequences_, 0}, {}});
  return pieces_.back();
}

View BatchBuilder::rows_view(const View& whole) const {
  return arena_->sent(elements_of(whole, {0, tokens_}));
}

void BatchBuilder::add_document(int64_t begin, int64_t length) {
  const int64_t needed = (length + kn::kPageTokens - 1) / kn::kPageTokens;
  check(needed <= pages_, Code::bug, "[batch] a document of ", length, " tokens in ", pages_, " pages");
  Piece& piece = piece_of(begin);
  const int64_t at = begin - piece.rows.begin;
  if (piece.groups.empty() || group_pages_ + needed > pages_) {
    piece.groups.push_back({{at, 0}, {piece.sequences.count, 0}});
    group_pages_ = 0;
  }
  AttentionGroup& group = piece.groups.back();
  group.rows.count += length;
  group.sequences.count += 1;
  piece.rows.count += length;
  piece.sequences.count += 1;
  int32_t* row = sequence_rows_.as<int32_t>() + 4 * sequences_++;
  row[0] = static_cast<int32_t>(at);
  row[1] = row[2] = static_cast<int32_t>(length);
  row[3] = static_cast<int32_t>(table_entries_);
  for (int64_t p = 0; p < needed; ++p)
    page_table_.as<int32_t>()[table_entries_++] = static_cast<int32_t>(group_pages_ + p);
  for (int64_t i = 0; i < length; ++i) {
    positions_.as<int32_t>()[begin + i] = static_cast<int32_t>(i);
    slots_.as<int64_t>()[begin + i] = group_pages_ * kn::kPageTokens + i;
  }
  group_pages_ += needed;
}

void BatchBuilder::check_ids(std::span<const int32_t> ids, bool target) const {
  for (int32_t id : ids)
    check(id < vocab_ && (id >= 0 || target), Code::input, "[batch] token id ", id, " is outside the model's vocabulary of ",
          vocab_, ": the tokens are damaged or of another tokenizer");
}

void BatchBuilder::add_row(std::span<const int32_t> tokens, std::span<const int32_t> targets,
                           std::span<const int32_t> document_starts) {
  const int64_t begin = tokens_, n = static_cast<int64_t>(tokens.size());
  check(begin + n <= ids_.size(), Code::bug, "[batch] ", begin + n, " tokens, room for ", ids_.size());
  check(n == 0 || begin / piece_ == (begin + n - 1) / piece_, Code::bug, "[batch] a row of ", n, " tokens in pieces of ",
        piece_);
  check_ids(tokens, false);
  check_ids(targets, true);
  std::memcpy(ids_.as<int32_t>() + begin, tokens.data(), tokens.size_bytes());
  if (!targets.empty()) std::memcpy(targets_.as<int32_t>() + begin, targets.data(), targets.size_bytes());
  int64_t at = 0;
  for (int32_t start : document_starts) {
    check(start >= at && start < n, Code::bug, "[batch] document start ", start, " in a row of ", n);
    if (start > at) add_document(begin + at, start - at);
    at = start;
  }
  if (n > at) add_document(begin + at, n - at);
  tokens_ += n;
}

void BatchBuilder::plan(int64_t tokens) {
  clear();
  tokens_ = tokens;
  for (int64_t at = 0; at < tokens; at += piece_) {
    const int64_t count = std::min(piece_, tokens - at);
    pieces_.push_back({{at, count}, {sequences_++, 1}, {{{0, count}, {0, 1}}}});
  }
  table_entries_ = 1;
}

const TokenBatch& BatchBuilder::batch(int64_t index) {
  static const Piece none;
  const Piece& piece = pieces_.empty() ? none : pieces_[static_cast<size_t>(index)];
  batch_.tokens = piece.rows.count;
  batch_.ids = arena_->sent(elements_of(ids_, piece.rows));
  batch_.positions = arena_->sent(elements_of(positions_, piece.rows));
  batch_.slots = arena_->sent(elements_of(slots_, piece.rows));
  batch_.sequences = arena_->sent(rows_of(sequence_rows_, piece.sequences.begin, piece.sequences.count));
  batch_.page_table = arena_->sent(elements_of(page_table_, {0, table_entries_}));
  batch_.groups = piece.groups;
  return batch_;
}

}  // namespace llmctl
