// SPDX-License-Identifier: Apache-2.0
#include "core/nn/chunks.h"

#include <algorithm>

#include "core/nn/context.h"

namespace llmctl {

std::vector<int64_t> ChunkLayout::chunks_of(int r) const {
  std::vector<int64_t> mine;
  for (int64_t c = 0; c < chunks; ++c)
    if (owner_of(c) == r) mine.push_back(c);
  return mine;
}

ChunkTables::ChunkTables(Arena& arena, const ChunkLayout& layout, int64_t units)
    : arena_(&arena), layout_(layout), index_(static_cast<size_t>(layout.chunks)) {
  for (int r = 0; r < layout.ranks; ++r) {
    chunks_.push_back(layout.chunks_of(r));
    for (size_t i = 0; i < chunks_.back().size(); ++i)
      index_[static_cast<size_t>(chunks_.back()[i])] = static_cast<int64_t>(i);
  }
  const int64_t rows = units * layout.unit_rows(), all = rows * layout.ranks;
  order_ = arena.take(DType::i32, {all});
  sequences_ = arena.take(DType::i32, {rows, 6});  // each has a query at least
  terms_of_ = arena.take(DType::i32, {all, layout.own()});
  if (layout.ranks > 1) roots_of_ = arena.take(DType::i32, {rows, layout.ranks});
}

// Chunks of `to` whose keys some chunk of `from` sees: its first ones.
int64_t ChunkTables::handed(int from, int to) const {
  const std::vector<int64_t>& theirs = chunks_[static_cast<size_t>(to)];
  return std::upper_bound(theirs.begin(), theirs.end(), chunks_[static_cast<size_t>(from)].back()) - theirs.begin();
}

int64_t ChunkTables::row_among(int64_t token, int64_t chunks) const {
  const int64_t sequence = token / layout_.seq, unit = sequence / layout_.sequences;
  const int64_t i = index_[static_cast<size_t>(chunk_of(token))];
  return ((unit * chunks + i) * layout_.sequences + sequence % layout_.sequences) * layout_.slice() +
         token % layout_.slice();
}

void ChunkTables::set_borders() {
  batch_.send.assign(1, 0), batch_.recv.assign(1, 0);
  const int64_t rows = units_ * layout_.part_rows();
  for (int r = 0; r < layout_.ranks; ++r) {
    batch_.send.push_back(batch_.send.back() + handed(layout_.rank, r) * rows);
    batch_.recv.push_back(batch_.recv.back() + handed(r, layout_.rank) * rows);
  }
}

// A chunk's terms for the first `keys` keys of a document it lies in.
void ChunkTables::add_terms(const DocumentRun& document, int64_t chunk, int64_t keys) {
  const int64_t column = layout_.place_of(chunk) - layout_.rank * layout_.own();
  for (int64_t k = 0; k < keys; ++k) {
    const int64_t token = document.begin + k;
    const int to = layout_.owner_of(chunk_of(token));
    const int64_t row = batch_.send[static_cast<size_t>(to)] + row_among(token, handed(layout_.rank, to));
    terms_of_.as<int32_t>()[row * layout_.own() + column] = static_cast<int32_t>(batch_.term_rows + k);
  }
}

void ChunkTables::build(int64_t units, std::vector<DocumentRun>& documents, int32_t* forward) {
  units_ = units;
  rows_ = batch_.term_rows = batch_.work_rows = 0;
  set_borders();
  std::fill_n(terms_of_.as<int32_t>(), batch_.send.back() * layout_.own(), -1);
  int32_t* backward = sequences_.as<int32_t>();
  for (DocumentRun& document : documents) {
    const int64_t start = document.begin / layout_.seq * layout_.seq, end = document.begin + document.count;
    document.sequences = 0;
    for (const int64_t c : chunks_[static_cast<size_t>(layout_.rank)]) {
      const int64_t from = std::max(document.begin, start + c * layout_.slice());
      const int64_t to = std::min(end, start + (c + 1) * layout_.slice());
      if (from >= to) continue;
      const int64_t keys = to - document.begin;
      for (const int64_t x : {row_of(from), to - from, keys, document.first_page}) *forward++ = static_cast<int32_t>(x);
      for (const int64_t x : {row_of(from), to - from, keys, document.begin, batch_.term_rows, batch_.work_rows})
        *backward++ = static_cast<int32_t>(x);
      add_terms(document, c, keys);
      batch_.term_rows += keys;
      batch_.work_rows += std::min(keys, kn::kWorkKeys);
      ++document.sequences, ++rows_;
    }
  }
  const int64_t rows = units_ * layout_.unit_rows();
  for (int64_t t = 0; t < rows * layout_.ranks; ++t)
    order_.as<int32_t>()[t] = static_cast<int32_t>(layout_.owner_of(chunk_of(t)) * rows + row_of(t));
  for (int r = 0; r < layout_.ranks && layout_.ranks > 1; ++r) {
    const int64_t taken = handed(r, layout_.rank) * layout_.part_rows();  // of a unit
    for (int64_t t = 0; t < rows; ++t) {
      const int64_t unit = t / layout_.unit_rows(), at = t % layout_.unit_rows();
      roots_of_.as<int32_t>()[t * layout_.ranks + r] =
          static_cast<int32_t>(at < taken ? batch_.recv[static_cast<size_t>(r)] + unit * taken + at : -1);
    }
  }
}

void ChunkTables::plan(int64_t units) {
  units_ = units, rows_ = 1;
  set_borders();
  batch_.term_rows = batch_.work_rows = 0;
  for (const int64_t c : chunks_[static_cast<size_t>(layout_.rank)]) {
    batch_.term_rows += units * (c + 1) * layout_.part_rows();
    batch_.work_rows += units * layout_.sequences * (layout_.slice() + kn::kWorkKeys);
  }
}

const ChunkedBatch& ChunkTables::batch() {
  const int64_t rows = units_ * layout_.unit_rows();
  batch_.layout = layout_;
  batch_.all = rows * layout_.ranks;
  batch_.order = arena_->sent(elements_of(order_, {0, batch_.all}));
  batch_.sequences = arena_->sent(rows_of(sequences_, 0, rows_));
  batch_.terms_of = arena_->sent(rows_of(terms_of_, 0, batch_.send.back()));
  if (layout_.ranks > 1) batch_.roots_of = arena_->sent(rows_of(roots_of_, 0, rows));
  return batch_;
}

}  // namespace llmctl
