// SPDX-License-Identifier: Apache-2.0
#include "core/nn/vocabulary.h"

#include "kernels/basic.h"

namespace llmctl {
namespace {

struct OwnTokens {
  View tokens, ids;  // (n) i32: where they stand, and their rows here
};

// A plan knows no ids: it has room for all of them.
OwnTokens own_tokens(Ctx& ctx, const WeightState& table, const View& ids) {
  const int64_t t = ids.size();
  const RowRange own = table.slice.rows.front();
  const View tokens = ctx.arena.take(DType::i32, {t}), rows = ctx.arena.take(DType::i32, {t});
  int64_t n = 0;
  for (int64_t i = 0; i < t && !ctx.exec.plan; ++i) {
    const int64_t row = ids.as<int32_t>()[i] - own.begin;
    if (row < 0 || row >= own.count) continue;
    tokens.as<int32_t>()[n] = static_cast<int32_t>(i);
    rows.as<int32_t>()[n++] = static_cast<int32_t>(row);
  }
  if (ctx.exec.plan) n = t;
  return {elements_of(tokens, {0, n}), elements_of(rows, {0, n})};
}

}  // namespace

GatheredRows gather_embedding(Ctx& ctx, const WeightState& table, const View& ids) {
  const int64_t t = ids.size(), d = table.rows.cols(), row = d * size_of(table.rows.dtype);
  const int64_t share = table.slice.row_count();
  GatheredRows g{ctx.arena.take(table.rows.dtype, {t, d}), ctx.arena.take(DType::i32, {t})};
  ArenaFrame frame(ctx.arena);
  const OwnTokens own = own_tokens(ctx, table, ids);
  if (ctx.exec.plan) return g;
  std::vector<int64_t> next(static_cast<size_t>(ctx.tensor.size) + 1, 0);  // first row of each owner, then its next
  for (int64_t i = 0; i < t; ++i) ++next[static_cast<size_t>(ids.as<int32_t>()[i] / share) + 1];
  for (size_t r = 1; r < next.size(); ++r) next[r] += next[r - 1];
  const std::vector<int64_t> borders = in_bytes(next, row);
  for (int64_t i = 0; i < t; ++i)
    g.order.as<int32_t>()[i] = static_cast<int32_t>(next[static_cast<size_t>(ids.as<int32_t>()[i] / share)]++);
  const auto me = static_cast<size_t>(ctx.tensor.rank);
  const View mine(g.rows.as<std::byte>() + borders[me], table.rows.dtype, {own.ids.size(), d});
  if (own.ids.size() > 0) ctx.run(kn::GatherRows{.x = table.rows, .index = own.ids, .y = mine});
  ctx.tensor.comm->all_gather(memory_of(mine),
                              memory_of(g.rows), borders, table.spec.name);
  return g;
}

OwnRows own_embedding_rows(Ctx& ctx, const WeightState& table, const View& ids, const View& dx) {
  const OwnTokens own = own_tokens(ctx, table, ids);
  const View rows = ctx.arena.take(dx.dtype, {own.tokens.size(), dx.cols()});
  if (own.tokens.size() > 0) ctx.run(kn::GatherRows{.x = dx, .index = own.tokens, .y = rows});
  return {own.ids, rows};
}

}  // namespace llmctl
