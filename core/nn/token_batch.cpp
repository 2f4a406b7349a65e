// SPDX-License-Identifier: Apache-2.0
#include "core/nn/token_batch.h"

#include <algorithm>
#include <cstring>

namespace llmctl {

BatchBuilder::BatchBuilder(Arena& arena, int64_t max_tokens, int64_t pages, int64_t vocab, int64_t piece,
                           const ChunkLayout& chunks)
    : arena_(&arena), pages_(pages), vocab_(vocab), piece_(piece ? piece : max_tokens) {
  const int64_t max_rows = max_tokens / chunks.ranks;
  ids_ = arena.take(DType::i32, {max_rows});
  positions_ = arena.take(DType::i32, {max_rows});
  targets_ = arena.take(DType::i32, {max_rows});
  slots_ = arena.take(DType::i64, {max_tokens});
  // Every document has a token and every page one at least.
  sequence_rows_ = arena.take(DType::i32, {max_rows, 4});
  page_table_ = arena.take(DType::i32, {max_tokens});
  if (chunks.chunks > 1)
    chunks_ = std::make_unique<ChunkTables>(arena, chunks, max_tokens / (chunks.sequences * chunks.seq));
  batch_.pages = pages;
}

void BatchBuilder::clear() {
  tokens_ = sequences_ = table_entries_ = group_pages_ = 0;
  pieces_.clear();
  documents_.clear();
}

BatchBuilder::Piece& BatchBuilder::piece_of(int64_t begin) {
  const int64_t index = begin / piece_;
  if (index == pieces()) pieces_.push_back({{index * piece_, 0}, {sequences_, 0}, {}});
  return pieces_.back();
}

View BatchBuilder::rows_view(const View& whole) const {
  return arena_->sent(elements_of(whole, {0, rows()}));
}

// A group for a document of so many pages, which has tokens from `begin` of the piece on.
void BatchBuilder::open_group(Piece& piece, int64_t begin, int64_t pages) {
  if (!piece.groups.empty() && group_pages_ + pages <= pages_) return;
  piece.groups.push_back({{begin, 0}, {piece.sequences.count, 0}});
  group_pages_ = 0;
}

void BatchBuilder::add_document(int64_t begin, int64_t length) {
  const int64_t needed = (length + kn::kPageTokens - 1) / kn::kPageTokens;
  check(needed <= pages_, Code::bug, "[batch] a document of ", length, " tokens in ", pages_, " pages");
  Piece& piece = piece_of(begin);
  const int64_t at = begin - piece.rows.begin;
  open_group(piece, at, needed);
  AttentionGroup& group = piece.groups.back();
  group.rows.count += length;
  group.sequences.count += 1;
  piece.rows.count += length;
  piece.sequences.count += 1;
  if (chunks_) {
    documents_.push_back({begin, length, table_entries_});
  } else {
    int32_t* row = sequence_rows_.as<int32_t>() + 4 * sequences_++;
    row[0] = static_cast<int32_t>(at);
    row[1] = row[2] = static_cast<int32_t>(length);
    row[3] = static_cast<int32_t>(table_entries_);
  }
  for (int64_t p = 0; p < needed; ++p)
    page_table_.as<int32_t>()[table_entries_++] = static_cast<int32_t>(group_pages_ + p);
  for (int64_t i = 0; i < length; ++i) {
    if (!chunks_ || chunks_->here(begin + i))
      positions_.as<int32_t>()[chunks_ ? chunks_->row_of(begin + i) : begin + i] = static_cast<int32_t>(i);
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
  check(begin + n <= slots_.size(), Code::bug, "[batch] ", begin + n, " tokens, room for ", slots_.size());
  check(!chunks_ || n == chunks_->layout().seq, Code::bug, "[batch] a row of ", n, " tokens in chunks");
  check(n == 0 || begin / piece_ == (begin + n - 1) / piece_, Code::bug, "[batch] a row of ", n, " tokens in pieces of ",
        piece_);
  check_ids(tokens, false);
  check_ids(targets, true);
  deal_row(begin, tokens, targets);
  int64_t at = 0;
  for (int32_t start : document_starts) {
    check(start >= at && start < n, Code::bug, "[batch] document start ", start, " in a row of ", n);
    if (start > at) add_document(begin + at, start - at);
    at = start;
  }
  if (n > at) add_document(begin + at, n - at);
  tokens_ += n;
}

// A row's tokens and targets to where this rank has them.
void BatchBuilder::deal_row(int64_t begin, std::span<const int32_t> tokens, std::span<const int32_t> targets) {
  const size_t n = tokens.size(), run = chunks_ ? static_cast<size_t>(chunks_->layout().slice()) : n;
  for (size_t at = 0; at < n; at += run) {
    const int64_t token = begin + static_cast<int64_t>(at);
    if (chunks_ && !chunks_->here(token)) continue;
    const int64_t row = chunks_ ? chunks_->row_of(token) : begin;
    std::copy_n(tokens.data() + at, run, ids_.as<int32_t>() + row);
    if (!targets.empty()) std::copy_n(targets.data() + at, run, targets_.as<int32_t>() + row);
  }
}

// Sequences of the tables, in place of documents.
void BatchBuilder::cut_documents() {
  const ChunkLayout& layout = chunks_->layout();
  chunks_->build(tokens_ / (layout.sequences * layout.seq), documents_, sequence_rows_.as<int32_t>());
  sequences_ = 0;
  for (AttentionGroup& group : pieces_.front().groups) {
    const RowRange documents = group.sequences;
    group.sequences = {sequences_, 0};
    for (int64_t i = 0; i < documents.count; ++i)
      group.sequences.count += documents_[static_cast<size_t>(documents.begin + i)].sequences;
    sequences_ += group.sequences.count;
  }
  std::erase_if(pieces_.front().groups, [](const AttentionGroup& g) { return g.sequences.count == 0; });
  pieces_.front().sequences = {0, sequences_};
  documents_.clear();
}

void BatchBuilder::send(const kn::Exec& exec) {
  if (chunks_ && !documents_.empty()) cut_documents();
  arena_->send(exec);
}

void BatchBuilder::plan(int64_t tokens) {
  clear();
  tokens_ = tokens;
  if (chunks_) chunks_->plan(tokens / (chunks_->layout().sequences * chunks_->layout().seq));
  for (int64_t at = 0; at < tokens; at += piece_) {
    const int64_t count = std::min(piece_, tokens - at);
    pieces_.push_back({{at, count}, {sequences_++, 1}, {{{0, count}, {0, 1}}}});
  }
  table_entries_ = 1;
}

const TokenBatch& BatchBuilder::batch(int64_t index) {
  static const Piece none;
  const Piece& piece = pieces_.empty() ? none : pieces_[static_cast<size_t>(index)];
  const RowRange rows = chunks_ ? RowRange{0, this->rows()} : piece.rows;
  batch_.tokens = rows.count;
  batch_.ids = arena_->sent(elements_of(ids_, rows));
  batch_.positions = arena_->sent(elements_of(positions_, rows));
  batch_.slots = arena_->sent(elements_of(slots_, piece.rows));
  batch_.sequences = arena_->sent(rows_of(sequence_rows_, piece.sequences.begin, piece.sequences.count));
  batch_.page_table = arena_->sent(elements_of(page_table_, {0, table_entries_}));
  batch_.groups = piece.groups;
  batch_.chunks = chunks_ ? &chunks_->batch() : nullptr;
  return batch_;
}

}  // namespace llmctl
