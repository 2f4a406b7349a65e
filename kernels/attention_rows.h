// SPDX-License-Identifier: Apache-2.0
// What both bodies of AttnFwd share: a task's rows, what they see and where they go. A task
// is one KV head and up to kRows rows, a row being one query of one head of the group, so that a page
// of K and V serves every head of the group and several queries. Rows of a task share loads only:
// limits, maxima and merges are each row's own. Internal to kernels/; once per instruction set.
#pragma once

#include "kernels/attention.h"
#include "kernels/attention_tile.h"
#include "kernels/math.h"

namespace llmctl::kn {
namespace KN_NS {

// Rows beyond `rows` are padding: no keys, nothing written.
template <class T, int kRows>
struct RowBlock {
  static constexpr int kMost = kRows;
  static constexpr int64_t kQ = kMaxHeadDim / kPerWord<T>;   // words between rows of q
  static constexpr int64_t kP = kSegmentKeys / kPerWord<T>;  // words between rows of p
  alignas(64) Word<T> q[kRows * kQ];
  alignas(64) Word<T> p[kRows * kP];          // a segment's weights, rounded to T
  alignas(64) float s[kRows * kSegmentKeys];  // a segment's scores
  alignas(64) float o[kRows * kMaxHeadDim];   // merged so far
  float m[kRows], l[kRows];
  float keep[kRows], take[kRows];  // factors of the merge at hand
  int64_t limit[kRows];            // keys the row sees
  int64_t rows, height;            // height: with padding
};

struct Where {
  const AttnFwd& a;
  Sequence seq;
  int64_t kv_head, row;  // row: first row of the block within the sequence
  int64_t group() const { return a.heads / a.kv_heads; }
  int64_t token(int64_t r) const { return seq.first_row + (row + r) / group(); }
  int64_t head(int64_t r) const { return kv_head * group() + (row + r) % group(); }
  // K's or V's page of the segment that starts at `key`.
  template <class T>
  const T* page(const View& pages, int64_t key, int64_t i) const {
    const int32_t at = a.page_table.as<int32_t>()[seq.first_page + key / kPageTokens + i];
    return pages.as<T>() + (at * a.kv_heads + kv_head) * pages.dim[2];
  }
};

// Queries of `words` words, zero-padded, and limits.
template <class T, int kRows>
void load_rows(const Where& w, RowBlock<T, kRows>& b, int64_t words) {
  const int64_t d = w.a.qkv.dim[2], total = w.a.qkv.dim[1];
  for (int64_t r = 0; r < b.height; ++r) {
    const int64_t from = r < b.rows ? r : 0;
    const T* x = w.a.qkv.as<T>() + (w.token(from) * total + w.head(from)) * d;
    copy_words(b.q + r * b.kQ, x, d, words);
    b.limit[r] = r < b.rows ? w.seq.keys - w.seq.queries + (w.row + r) / w.group() + 1 : 0;
  }
}

// 16 elements of O take in those of a segment. A product that underflowed may have left -0, which a
// later masked key would turn into +0.
KN_INLINE void merge_values(float* o, F32 segment, F32 keep, F32 take, bool first) {
  const F32 x = add(segment, zero());
  store(o, first ? x : fma(load(o), keep, mul(x, take)));
}

template <class T, int kRows>
void store_rows(const Where& w, const RowBlock<T, kRows>& b) {
  const int64_t d = w.a.qkv.dim[2];
  for (int64_t r = 0; r < b.rows; ++r) {
    const int64_t at = w.token(r) * w.a.heads + w.head(r);
    const F32 l = set1(b.l[r]);
    for (int64_t i = 0; i < d; i += 16)
      store_row(w.a.out.as<T>() + at * d + i, div(load(b.o + r * kMaxHeadDim + i), l), d - i);
    if (w.a.lse) w.a.lse.as<float>()[at] = b.m[r] + math::log(b.l[r]);
  }
}

// attend(where, rows) for every block of up to `most` rows; they are numbered through the sequences in
// order. Late rows see most keys: start with them.
template <class Attend>
void for_row_blocks(const AttnFwd& a, const Exec& ex, int64_t most, Attend&& attend) {
  const int64_t group = a.heads / a.kv_heads;
  const auto* sequences = a.sequences.as<Sequence>();
  auto blocks_of = [&](const Sequence& s) { return (s.queries * group + most - 1) / most; };
  int64_t blocks = 0;
  for (int64_t s = 0; s < a.sequences.dim[0]; ++s) blocks += blocks_of(sequences[s]);
  parallel_for(ex, a.kv_heads * blocks, [&](int64_t i) {
    int64_t block = blocks - 1 - i % blocks;
    const Sequence* seq = sequences;
    for (; block >= blocks_of(*seq); ++seq) block -= blocks_of(*seq);
    const int64_t row = block * most, rows = seq->queries * group - row;
    attend(Where{a, *seq, i / blocks, row}, rows < most ? rows : most);
  });
}

}  // namespace KN_NS
}  // namespace llmctl::kn
