// SPDX-License-Identifier: Apache-2.0
// What both bodies of AttnBwd share. A task is one document, or the queries of one chunk of it, and one KV
// head. Internal to kernels/; once per instruction set.
#pragma once

#include "kernels/attention.h"
#include "kernels/attention_tile.h"

namespace llmctl::kn {
namespace KN_NS {

constexpr int64_t vectors_of(int64_t n) {
  return (n + 15) / 16;
}

struct BackwardRows {  // one row of AttnBwd::sequences with kv
  int32_t first_row, queries, keys, first_key, first_term, first_work;
};

// Queries are counted from the first one here, keys from the document's start.
template <class T>
struct Document {
  const AttnBwd& a;
  BackwardRows seq;
  int64_t kv_head;
  int64_t d, padded;  // head dimension, padded to vectors
  int64_t before;     // keys before the first query's own
  Document(const AttnBwd& op, const BackwardRows& s, int64_t head)
      : a(op), seq(s), kv_head(head), d(op.qkv.dim[2]), padded(vectors_of(d) * 16), before(s.keys - s.queries) {}
  int64_t tokens() const { return a.qkv.dim[0]; }
  int64_t work_rows() const { return a.kv ? a.work_rows : tokens(); }
  int64_t group() const { return a.heads / a.kv_heads; }
  int64_t row_stride() const { return a.qkv.dim[1] * d; }
  const T* row(int64_t t, int64_t head) const {
    return a.qkv.as<T>() + ((seq.first_row + t) * a.qkv.dim[1] + head) * d;
  }
  T* drow(int64_t t, int64_t head) const {
    return a.dqkv.as<T>() + ((seq.first_row + t) * a.qkv.dim[1] + head) * d;
  }
  // Of out, dout and lse.
  int64_t at(int64_t t, int64_t head) const { return (seq.first_row + t) * a.heads + head; }
  const T* dout(int64_t t, int64_t head) const { return a.dout.as<T>() + at(t, head) * d; }
  int64_t key_stride() const { return (a.kv ? 2 * a.kv_heads : a.qkv.dim[1]) * d; }
  const T* key(int64_t t, bool value) const {
    const int64_t head = (value ? a.kv_heads : 0) + kv_head;
    return a.kv ? a.kv.as<T>() + ((seq.first_key + t) * 2 * a.kv_heads + head) * d : row(t, a.heads + head);
  }
};

// run(task) for every document and KV head.
template <class T, class Run>
void for_documents(const AttnBwd& a, const Exec& ex, Run&& run) {
  parallel_for(ex, a.sequences.dim[0] * a.kv_heads, [&](int64_t i) {
    const int64_t s = i / a.kv_heads;
    if (a.kv) return run(Document<T>(a, a.sequences.as<BackwardRows>()[s], i % a.kv_heads));
    const Sequence& q = a.sequences.as<Sequence>()[s];
    run(Document<T>(a, {q.first_row, q.queries, q.keys, q.first_row, 0, q.first_row}, i % a.kv_heads));
  });
}

// rowsum(dO * O) of row `at` of both.
template <class T>
float row_delta(const AttnBwd& a, int64_t at) {
  const int64_t d = a.qkv.dim[2];
  const T *x = a.dout.as<T>() + at * d, *y = a.out.as<T>() + at * d;
  F32 sum = zero();
  for (int64_t i = 0; i < d; i += 16) sum = fma(load_row(x + i, d - i), load_row(y + i, d - i), sum);
  return sum16(sum);
}

// An underflow's -0, which a masked step turns into +0, is +0 always.
template <class T>
KN_INLINE void finish_row(T* to, const float* x, int64_t d) {
  for (int64_t i = 0; i < d; i += 16) store_row(to + i, add(load(x + i), zero()), d - i);
}

// dK or dV of a key, or what this chunk gives to it.
template <class T>
KN_INLINE void finish_key(const Document<T>& t, int64_t key, bool value, const float* x) {
  const int64_t head = (value ? t.a.kv_heads : 0) + t.kv_head;
  if (t.a.kv)
    finish_row(t.a.terms.template as<float>() + ((t.seq.first_term + key) * 2 * t.a.kv_heads + head) * t.d, x, t.d);
  else
    finish_row(t.drow(key, t.a.heads + head), x, t.d);
}

}  // namespace KN_NS
}  // namespace llmctl::kn
