// SPDX-License-Identifier: Apache-2.0
// Grouped-query self-attention: one product for Q, K and V, optional norms of query and key heads,
// optional rotary embedding, paged causal attention, output product added to the residual stream.
#pragma once

#include "core/nn/linear.h"

namespace llmctl {

struct RopeTables {
  View cos, sin;  // (P, head_dim / 2) f32; empty: no rotation
};

struct AttentionSaved {
  View qkv;  // (T, heads + 2 kv_heads, head_dim), rotated
  View raw, rstd;  // training with head norms: what they were given, and (T, heads + kv_heads) f32
  View out;  // (T, heads, head_dim)
  View lse;  // (T, heads) f32
};

struct HeadNorms {
  WeightState *query = nullptr, *key = nullptr;  // or none
  float eps = 1e-6f;
};

struct Attention {
  Linear qkv, output;
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  HeadNorms norms = {};

  AttentionSaved take_saved(Arena& arena, DType dtype, int64_t tokens, bool training) const;
  // y (T,D) = residual + attention(h); layer selects the cache of `batch`.
  void forward(Ctx& ctx, const TokenBatch& batch, const RopeTables& rope, int64_t layer, const View& h,
               const View& residual, const View& y, const AttentionSaved& saved) const;
  // dh (T,D) from dy (T,D); the residual's share is the caller's.
  void backward(Ctx& ctx, const TokenBatch& batch, const RopeTables& rope, const View& h, const View& dy,
                const AttentionSaved& saved, const View& dh) const;

 private:
  // kv (T, 2 kv_heads, D): where K and V come from instead of saved.qkv, or none.
  void attend(Ctx& ctx, const TokenBatch& batch, const AttentionGroup& group, const kn::KvPages& pages,
              const AttentionSaved& saved, const View& kv) const;
  void norm_heads(Ctx& ctx, const View& raw, const AttentionSaved& saved) const;
  void norm_heads_backward(Ctx& ctx, const AttentionSaved& saved, const View& dqkv) const;
  float scale() const;
};

}  // namespace llmctl
