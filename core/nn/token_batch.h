// SPDX-License-Identifier: Apache-2.0
// Arrays of one forward pass over whole documents (training, scoring), filled row by row on the host.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "core/nn/chunks.h"
#include "core/nn/context.h"

namespace llmctl {

class BatchBuilder {
 public:
  // In a staged arena, which it refers to. Room for max_tokens tokens and for attention groups of `pages` pages (at least one document's).
  // `vocab`: what ids are checked against. The batch comes in pieces of `piece` tokens each, which rows
  // do not straddle (0: one piece). With chunks of sequences rows are whole sequences, a batch is one piece of
  // whole units, and the views below are of the rows of this rank.
  BatchBuilder(Arena& arena, int64_t max_tokens, int64_t pages, int64_t vocab, int64_t piece = 0,
               const ChunkLayout& chunks = {});
  // Twice what documents of a page or more need; shorter ones are attended in more groups.
  static int64_t default_pages(int64_t tokens) { return (tokens + 31) / 32 * 2 + 2; }

  void clear();
  // Appends a row of tokens that begins a document and holds others from each of `document_starts`
  // (ascending, within the row, 0 may stand or not). targets may be empty: none. Error{input} for an
  // id outside the vocabulary; a target below 0 is none.
  void add_row(std::span<const int32_t> tokens, std::span<const int32_t> targets,
               std::span<const int32_t> document_starts);
  // Shapes for a planning pass: `tokens` of whatever.
  void plan(int64_t tokens);
  // Brings what was added to the device (core/tensor/arena.h): before the views below are read there.
  void send(const kn::Exec& exec);
  // Views of what was added, on the device: one piece of it, ...
  const TokenBatch& batch(int64_t piece = 0);
  int64_t pieces() const { return static_cast<int64_t>(pieces_.size()); }
  // ... and all.
  View ids() const { return rows_view(ids_); }
  View positions() const { return rows_view(positions_); }
  View targets() const { return rows_view(targets_); }
  View host_targets() const { return elements_of(targets_, {0, rows()}); }

 private:
  struct Piece {
    RowRange rows, sequences;
    std::vector<AttentionGroup> groups;  // relative to the piece
  };
  void check_ids(std::span<const int32_t> ids, bool target) const;
  void add_document(int64_t begin, int64_t length);
  void open_group(Piece& piece, int64_t begin, int64_t pages);
  void deal_row(int64_t begin, std::span<const int32_t> tokens, std::span<const int32_t> targets);
  void cut_documents();
  int64_t rows() const { return chunks_ ? tokens_ / chunks_->layout().ranks : tokens_; }
  View rows_view(const View& whole) const;
  Piece& piece_of(int64_t begin);
  Arena* arena_;
  int64_t pages_ = 0, vocab_ = 0, piece_ = 0, tokens_ = 0, sequences_ = 0, table_entries_ = 0, group_pages_ = 0;
  View ids_, positions_, slots_, sequence_rows_, page_table_, targets_;
  std::vector<Piece> pieces_;
  TokenBatch batch_;
  std::unique_ptr<ChunkTables> chunks_;  // or none
  std::vector<DocumentRun> documents_;   // with chunks; until cut a group's sequences are these
};

}  // namespace llmctl
