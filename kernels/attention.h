// SPDX-License-Identifier: Apache-2.0
// Grouped-query causal attention over paged keys and values: one forward for training, prefill and
// decode (NUMERICS rules 10 and 11). Follows FlashAttention-2 (Dao 2023) for the backward's use of
// the log-sum-exp.
//
// A sequence is a document: keys counted from its start. Each query restarts (m, l, O) at every
// segment of 256 keys and merges the segments in order: scores of a segment (fp32; a chain over D,
// pairs in bf16), m their maximum, p = exp(s - m), l = sum16 of 16 lanes over the segment's keys (key
// i of the segment in lane i mod 16), O a chain over keys (bf16: p rounded to bf16, pairs of keys, odd
// first). Merge: m' = max, a = exp(m_old - m'), b = exp(m_seg - m'), l = fma(l_old, a, l_seg * b),
// O = fma(O_old, a, O_seg * b). The first segment is taken as it is. Finally O / l, one rounding.
// Masked keys contribute nothing, whatever lies in their slot (stale pages may hold anything); a
// segment's O of -0 (only underflow makes one) counts as +0, so that skipping them is exact.
//
// In bf16 that is the order `pair`. The order `amx32` (gemm.h) sums by blocks of 32 instead: scores
// over D, a last block filled up with +0; O over the segment's keys, blocks being pages; p of masked
// keys +0. All else is the same.
//
// Pages hold 32 keys per KV head. K page: f32 [D][32], bf16 [ceil(D/2)][32][2] (pairs along D).
// V page: f32 [32][D], bf16 [16][D][2] (pairs along keys).
#pragma once

#include "kernels/leaves.h"
#include "kernels/op.h"

namespace llmctl::kn {

constexpr int64_t kPageTokens = 32;
constexpr int64_t kSegmentKeys = 256;

struct KvPages {
  View k;  // (pages, kv_heads, page elements)
  View v;  // (pages, kv_heads, page elements)
};
// Elements of one K (or V) page of one KV head.
constexpr int64_t kv_page_elements(DType dtype, int64_t head_dim) {
  return kPageTokens * (dtype == DType::bf16 ? (head_dim + 1) / 2 * 2 : head_dim);
}

// Rotary embedding (Su et al. 2021), Hugging Face's rotate-half: for the first `rotated` heads of
// x (T,H,D): (a,b) = (x[i], x[i+D/2]) -> (a cos - b sin, b cos + a sin), angles by row of the tables
// (P, D/2) f32; products and sums round in f32 (no FMA), then one rounding. inverse negates sin: the
// backward. y may be x; the other heads are copied when it is not. bits: any-cpu+cuda
struct Rope {
  static constexpr const char* kName = "rope";
  View x, y;
  View positions;  // (T) i32
  View cos, sin;
  int64_t rotated = 0;
  bool inverse = false;
  void check() const;
};
KN_OP(Rope)

// Copies the K and V heads of qkv (T, heads + 2 kv_heads, D) into their page slots:
// slot (T) i64 = page * 32 + offset, -1 = skip. bits: any-cpu+cuda
struct KvWrite {
  static constexpr const char* kName = "kv_write";
  View qkv;
  int64_t heads = 0, kv_heads = 0;
  View slots;
  KvPages kv;
  void check() const;
};
KN_OP(KvWrite)

// Row s of `sequences` (S,4) i32: {first query row, queries, keys, first entry of page_table}; the
// queries are the last of the keys. page_table (P) i32. lse (T, heads) f32 or none: m + log(l).
// out (T, heads, D) in qkv's dtype (f32 or bf16). Any D up to 256.
// bits: any-isa (CUDA: backend)
struct AttnFwd {
  static constexpr const char* kName = "attn_fwd";
  View qkv;  // (T, heads + 2 kv_heads, D)
  int64_t heads = 0, kv_heads = 0;
  KvPages kv;
  View sequences, page_table;
  float scale = 1.0f;  // applied to the score in fp32
  View out, lse;
  Bf16Order order = Bf16Order::pair;  // in bf16
  void check() const;
};
KN_OP(AttnFwd)

// Gradients of AttnFwd. Without kv every sequence is whole (queries == keys), and qkv holds rotated K.
// s and dP are chains over D; p = exp(s - lse); delta = rowsum(dO * O) by FMA in 16 lanes, then
// sum16; ds = (p (dP - delta)) scale. bf16: p and ds are rounded for the products. dQ is one chain
// over keys; dK and dV per query head are chains over queries (bf16: pairs from the document's
// start), both in fp32, -0 counting as +0; heads of the group join as one balanced binary tree of
// neighbours, then one rounding. Rows of dqkv (T, heads + 2 kv_heads, D) outside every sequence are
// left alone. Sequences must not overlap; page_table is not used. The order amx32 sums by blocks of 32:
// s and dP over D, dQ over keys and dK, dV over queries from the document's start, masked p and ds +0;
// groups of up to 128 heads.
//
// With kv, rows of qkv are queries of chunks of documents (NUMERICS rule 11), which are the last of the
// keys: K and V come from kv, chains over queries (and their pairs and blocks) start at the chunk's first
// query of the document, and what the chunk gives to dK and dV of its keys is left in fp32 in terms, the
// group's heads joined, for JoinTerms (kernels/chunks.h). Row s of sequences (S,6) i32: {first query row,
// queries, keys, first row of kv, first row of terms, first place in work}; places are min(keys, 64) wide
// and, like rows of terms, a sequence's own.
// bits: any-isa (CUDA: backend)
struct AttnBwd {
  static constexpr const char* kName = "attn_bwd";
  View qkv;
  int64_t heads = 0, kv_heads = 0;
  View sequences;
  float scale = 1.0f;
  View out, lse, dout;
  View dqkv;
  View work;  // u8, attn_bwd_workspace bytes
  Bf16Order order = Bf16Order::pair;  // in bf16
  View kv = {};            // (R, 2 kv_heads, D): the K heads, then the V heads; or none
  View terms = {};         // with kv: (R, 2 kv_heads, D) f32
  int64_t work_rows = -1;  // with kv: places in work
  void check() const;
};
KN_OP(AttnBwd)
constexpr int64_t kWorkKeys = 64;  // places of a sequence at most
// work_rows: -1 without kv.
int64_t attn_bwd_workspace(DType dtype, int64_t tokens, int64_t heads, int64_t kv_heads, int64_t head_dim,
                           Bf16Order order = Bf16Order::pair, int64_t work_rows = -1);

}  // namespace llmctl::kn
