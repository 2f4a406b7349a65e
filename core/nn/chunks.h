// SPDX-License-Identifier: Apache-2.0
// Sequences in chunks (NUMERICS: the c-th of C equal slices of every sequence of a unit), and their ranks in a
// context-parallel group. A gradient's part is one (unit, chunk). A rank's rows of a pass lie by (unit, chunk,
// sequence, position), chunks ascending, so that a part is one run of rows; the zigzag order 0, C-1, 1, C-2, ...
// deals ranks equal work of a causal attention, and each a subtree of the sums of dK and dV.
#pragma once

#include <cstdint>
#include <vector>

#include "core/tensor/arena.h"

namespace llmctl {

struct ChunkLayout {
  int64_t chunks = 1;              // C
  int64_t sequences = 0, seq = 0;  // of a unit, tokens of each
  int rank = 0, ranks = 1;         // of the context-parallel group; ranks divide C

  int64_t slice() const { return seq / chunks; }
  int64_t own() const { return chunks / ranks; }  // chunks of a rank
  int64_t part_rows() const { return sequences * slice(); }
  int64_t unit_rows() const { return part_rows() * own(); }  // of a rank
  int64_t place_of(int64_t chunk) const { return chunk < (chunks + 1) / 2 ? 2 * chunk : 2 * (chunks - 1 - chunk) + 1; }
  int owner_of(int64_t chunk) const { return static_cast<int>(place_of(chunk) / own()); }
  std::vector<int64_t> chunks_of(int r) const;  // ascending
};

// What a pass in chunks knows beside core/nn/context.h's TokenBatch: tables on the device. T are the rows here,
// A = ranks T all tokens of the pass; in their own order these are (unit, sequence, position).
struct ChunkedBatch {
  ChunkLayout layout;
  int64_t all = 0;                       // A
  int64_t term_rows = 0, work_rows = 0;  // of kernels/attention.h's AttnBwd
  View order;      // (A) i32: of each token in order its row among the rows of all ranks, one after another
  View sequences;  // (S,6) i32: AttnBwd's, one for each (document, own chunk), in the order of the documents
  View terms_of;   // (R, own chunks) i32: of each row handed out the terms of its sum here
  View roots_of;   // (T, ranks) i32: of each row here the sums taken in; with ranks above 1
  std::vector<int64_t> send, recv;  // borders by rank of rows handed out (R in all) and taken in
};

// A run of tokens in order, within one sequence.
struct DocumentRun {
  int64_t begin = 0, count = 0;
  int64_t first_page = 0;  // in the page table
  int64_t sequences = 0;   // of the own chunks that it lies in: build() says
};

// Fills the tables on the host.
class ChunkTables {
 public:
  // Room for passes of `units` units; `arena` is a staged one.
  ChunkTables(Arena& arena, const ChunkLayout& layout, int64_t units);
  const ChunkLayout& layout() const { return layout_; }
  // From the documents of a pass, in order. forward: AttnFwd's sequences (S,4), of room for all rows.
  void build(int64_t units, std::vector<DocumentRun>& documents, int32_t* forward);
  // The largest there can be, for a planning pass.
  void plan(int64_t units);
  // Whether a token in order is of a chunk of this rank, and its row at its owner.
  bool here(int64_t token) const { return layout_.owner_of(chunk_of(token)) == layout_.rank; }
  int64_t row_of(int64_t token) const { return row_among(token, layout_.own()); }
  // Views on the device, of what was built.
  const ChunkedBatch& batch();

 private:
  int64_t chunk_of(int64_t token) const { return token % layout_.seq / layout_.slice(); }
  int64_t row_among(int64_t token, int64_t chunks) const;  // where its owner keeps so many chunks only
  int64_t handed(int from, int to) const;
  void set_borders();
  void add_terms(const DocumentRun& document, int64_t chunk, int64_t keys);
  Arena* arena_;
  ChunkLayout layout_;
  std::vector<std::vector<int64_t>> chunks_;  // by rank
  std::vector<int64_t> index_;                // of each chunk among its owner's
  View order_, sequences_, terms_of_, roots_of_;
  int64_t units_ = 0, rows_ = 0;
  ChunkedBatch batch_;
};

}  // namespace llmctl
