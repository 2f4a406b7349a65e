// SPDX-License-Identifier: Apache-2.0
#include "core/nn/head_norms.h"

#include <cstring>

namespace llmctl {
namespace {

// Where heads stand: query heads of all ranks, then key heads of all.
struct Heads {
  int ranks = 1;
  int64_t query = 0, key = 0;  // of a rank
  int64_t normed() const { return query + key; }
  int64_t among_all(int64_t rank, int64_t h) const { return h < query ? rank * query + h : ranks * query + rank * key + h - query; }
};

// Columns of this rank's share of x (T, heads, D), of the normed heads of all ranks: (T, all heads, D / ranks),
// of which those that are not normed are not set.
View share_of_columns(Ctx& ctx, const Heads& heads, const View& x) {
  const RankGroup& group = ctx.tensor;
  const int64_t t = x.dim[0], normed = heads.normed(), width = x.dim[2] / group.size;
  const View all = ctx.arena.take(x.dtype, {t, group.size * x.dim[1], width});
  ArenaFrame frame(ctx.arena);
  const View send = ctx.arena.take(x.dtype, {group.size, t, normed * width}), came = ctx.arena.take(x.dtype, {group.size, t, normed * width});
  if (ctx.exec.plan) return all;
  const int64_t bytes = width * size_of(x.dtype), row = normed * bytes;
  const std::vector<int64_t> borders = even_offsets(send.bytes(), group.size);
  const auto each_head = [&](const auto& copy) {  // copy(packed, rank, token, head)
    kn::parallel_for(ctx.exec, group.size * t, [&](int64_t i) {
      for (int64_t h = 0; h < normed; ++h) copy(i * row + h * bytes, i / t, i % t, h);
    });
  };
  each_head([&](int64_t at, int64_t rank, int64_t token, int64_t h) {
    std::memcpy(send.as<std::byte>() + at, x.as<std::byte>() + ((token * x.dim[1] + h) * group.size + rank) * bytes, static_cast<size_t>(bytes));
  });
  group.comm->all_to_all(memory_of(send), borders, memory_of(came), borders, "heads' columns");
  each_head([&](int64_t at, int64_t rank, int64_t token, int64_t h) {
    std::memcpy(all.as<std::byte>() + (token * all.dim[1] + heads.among_all(rank, h)) * bytes, came.as<std::byte>() + at, static_cast<size_t>(bytes));
  });
  return all;
}

// rstd (T, normed) of all ranks.
View of_all_heads(Ctx& ctx, const Heads& heads, const View& rstd) {
  const RankGroup& group = ctx.tensor;
  const int64_t t = rstd.rows(), normed = heads.normed();
  const View all = ctx.arena.take(DType::f32, {t, group.size * normed});
  ArenaFrame frame(ctx.arena);
  const View came = ctx.arena.take(DType::f32, {group.size, t, normed});
  if (ctx.exec.plan) return all;
  group.comm->all_gather(memory_of(rstd), memory_of(came), even_offsets(came.bytes(), group.size), "heads' scales");
  kn::parallel_for(ctx.exec, group.size * t, [&](int64_t i) {
    for (int64_t h = 0; h < normed; ++h)
      all.as<float>()[i % t * group.size * normed + heads.among_all(i / t, h)] = came.as<float>()[i * normed + h];
  });
  return all;
}

}  // namespace

void head_norm_backward(Ctx& ctx, const kn::HeadNormBwd& op) {
  const RankGroup& group = ctx.tensor;
  if (group.size == 1) return ctx.run(op);
  ArenaFrame frame(ctx.arena);
  const int64_t d = op.x.dim[2], width = d / group.size;
  const RowRange mine{group.rank * width, width};
  const Heads heads{group.size, op.heads, op.kv_heads};
  kn::HeadNormBwd shared = op;
  shared.heads = group.size * op.heads, shared.kv_heads = group.size * op.kv_heads;
  shared.w_query = elements_of(op.w_query, mine), shared.w_key = elements_of(op.w_key, mine);
  shared.grad_query = elements_of(op.grad_query, mine), shared.grad_key = elements_of(op.grad_key, mine);
  shared.dy = shared.dx = share_of_columns(ctx, heads, op.dy);  // its dx is of no use, a part of rows
  shared.x = share_of_columns(ctx, heads, op.x);
  shared.rstd = of_all_heads(ctx, heads, op.rstd);
  kn::HeadNormBwd own = op;  // its gradients are of no use, of some heads
  own.grad_query = ctx.arena.take(DType::i64, {d}), own.grad_key = ctx.arena.take(DType::i64, {d});
  own.overflow_query = own.overflow_key = ctx.arena.take(DType::i32, {1});
  ctx.run(shared);
  ctx.run(own);
}

}  // namespace llmctl
