// SPDX-License-Identifier: Apache-2.0
// What both bodies of AttnBwd share. A task is one document and one KV head. Internal to kernels/;
// once per instruction set.
#pragma once

#include "kernels/attention.h"
#include "kernels/attention_tile.h"

namespace llmctl::kn {
namespace KN_NS {

constexpr int64_t vectors_of(int64_t n) {
  return (n + 15) / 16;
}

// Rows are counted from the document's start.
template <class T>
struct Document {
  const AttnBwd& a;
  Sequence seq;
  int64_t kv_head;
  int64_t d, padded;  // head dimension, padded to vectors
  Document(const AttnBwd& op, const Sequence& s, int64_t head)
      : a(op), seq(s), kv_head(head), d(op.qkv.dim[2]), padded(vectors_of(d) * 16) {}
  int64_t tokens() const { return a.qkv.dim[0]; }
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
};

// run(task) for every document and KV head.
template <class T, class Run>
void for_documents(const AttnBwd& a, const Exec& ex, Run&& run) {
  parallel_for(ex, a.sequences.dim[0] * a.kv_heads, [&](int64_t i) {
    run(Document<T>(a, a.sequences.as<Sequence>()[i / a.kv_heads], i % a.kv_heads));
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

}  // namespace KN_NS
}  // namespace llmctl::kn
