// SPDX-License-Identifier: Apache-2.0
#include "core/nn/expert_rows.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/basic.h"

namespace llmctl {
namespace {

// Runs are read by the host.
void on_cpu(const Ctx& ctx) {
  check(ctx.exec.device.kind == kn::DeviceKind::cpu, Code::unsupported, "[moe] experts run on the CPU only for now");
}

}  // namespace

int64_t ExpertShare::room(int64_t tokens) const {
  if (ranks == 1) return tokens * per_token;
  const int64_t most_held = (experts + ranks - 1) / ranks;
  const int64_t worst = ranks * tokens * std::min(per_token, most_held);
  if (capacity == 0) return worst;
  return std::min(worst, static_cast<int64_t>(std::ceil(capacity * static_cast<double>(tokens * per_token))));
}

void ExpertShare::take_saved(Arena& arena, int64_t parts, MlpSaved& saved) const {
  saved.runs = saved.starts;
  if (ranks == 1) return;
  saved.counts = arena.take(DType::i32, {ranks, parts, experts});
  saved.runs = arena.take(DType::i32, {ranks * held().count + 1});
}

// Rows of a rank's parts for experts, of saved.counts (ranks, parts, experts).
int64_t ExpertShare::counted(const MlpSaved& saved, int from, const RowRange& parts, const RowRange& of) const {
  int64_t n = 0;
  for (int64_t u = parts.begin; u < parts.begin + parts.count; ++u) {
    const int32_t* row = saved.counts.as<int32_t>() + (from * saved.counts.dim[1] + u) * experts + of.begin;
    for (int64_t e = 0; e < of.count; ++e) n += row[e];
  }
  return n;
}

// Borders, in bytes, of what goes to each rank, and of what comes from it.
std::vector<int64_t> ExpertShare::sent(const MlpSaved& saved, int64_t row_bytes) const {
  std::vector<int64_t> borders{0};
  for (int to = 0; to < ranks; ++to)
    borders.push_back(borders.back() + row_bytes * counted(saved, rank, {0, saved.counts.dim[1]}, experts_held(experts, ranks, to)));
  return borders;
}

std::vector<int64_t> ExpertShare::received(const MlpSaved& saved, int64_t row_bytes) const {
  std::vector<int64_t> borders{0};
  for (int from = 0; from < ranks; ++from)
    borders.push_back(borders.back() + row_bytes * counted(saved, from, {0, saved.counts.dim[1]}, held()));
  return borders;
}

void ExpertShare::set_runs(const MlpSaved& saved) const {
  int32_t* runs = saved.runs.as<int32_t>();
  *runs = 0;
  for (int from = 0; from < ranks; ++from)
    for (int64_t e = 0; e < held().count; ++e, ++runs)
      runs[1] = runs[0] + static_cast<int32_t>(counted(saved, from, {0, saved.counts.dim[1]}, {held().begin + e, 1}));
}

void ExpertShare::agree(const Ctx& ctx, const MlpSaved& saved) const {
  if (ranks == 1 || ctx.exec.plan) return;
  on_cpu(ctx);
  const int64_t parts = saved.counts.dim[1], row = parts * experts;
  int32_t* mine = saved.counts.as<int32_t>() + rank * row;
  std::memset(mine, 0, static_cast<size_t>(row) * 4);
  const int64_t tokens = saved.index.rows();
  const auto* index = saved.index.as<int32_t>();
  for (int64_t i = 0; i < saved.index.size(); ++i) ++mine[i / per_token * parts / tokens * experts + index[i]];
  ctx.experts.comm->all_gather({reinterpret_cast<std::byte*>(mine), static_cast<size_t>(row) * 4}, memory_of(saved.counts),
                               even_offsets(saved.counts.bytes(), ranks), "counts of experts' rows");
  int64_t most = 0;
  for (int to = 0; to < ranks; ++to) {
    int64_t rows = 0;
    for (int from = 0; from < ranks; ++from) rows += counted(saved, from, {0, parts}, experts_held(experts, ranks, to));
    most = std::max(most, rows);
  }
  if (most > room(tokens)) {
    const double load = static_cast<double>(most) / static_cast<double>(tokens * per_token);
    if (!ctx.expert_load) check_expert_load(load);
    if (*ctx.expert_load == 0) *ctx.expert_load = load;
    ctx.run(kn::Clear{.x = saved.counts});
  }
  set_runs(saved);
}

View ExpertShare::filled(const Ctx& ctx, const View& v, const MlpSaved& saved) const {
  if (ranks == 1 || ctx.exec.plan) return v;
  return rows_of(v, 0, saved.runs.as<int32_t>()[saved.runs.size() - 1]);
}

View ExpertShare::place(const Ctx& ctx, const View& rows, const MlpSaved& saved) const {
  if (ranks == 1) return rows;
  return filled(ctx, ctx.arena.take(rows.dtype, {room(saved.index.rows()), rows.cols()}), saved);
}

void ExpertShare::to_holders(const Ctx& ctx, const View& rows, const View& place, const MlpSaved& saved) const {
  if (ranks == 1 || ctx.exec.plan) return;
  const int64_t row_bytes = rows.cols() * size_of(rows.dtype);
  const std::vector<int64_t> from = sent(saved, row_bytes), to = received(saved, row_bytes);
  ctx.experts.comm->all_to_all(memory_of(rows).first(static_cast<size_t>(from.back())), from, memory_of(place), to, "experts' rows");
}

void ExpertShare::to_tokens(const Ctx& ctx, const View& place, const View& rows, const MlpSaved& saved) const {
  if (ranks == 1 || ctx.exec.plan) return;
  const int64_t row_bytes = rows.cols() * size_of(rows.dtype);
  const std::vector<int64_t> from = received(saved, row_bytes), to = sent(saved, row_bytes);
  if (to.back() < rows.bytes()) ctx.run(kn::Clear{.x = rows});  // there was no room
  ctx.experts.comm->all_to_all(memory_of(place), from, memory_of(rows).first(static_cast<size_t>(to.back())), to, "experts' rows");
}

void ExpertShare::each_run(const Ctx& ctx, const MlpSaved& saved, const Body& body) const {
  const int64_t tokens = saved.index.rows();
  if (ctx.exec.plan) return body(held().begin, {0, std::min(tokens, room(tokens))});
  on_cpu(ctx);
  const int32_t* runs = saved.runs.as<int32_t>();
  for (int64_t g = 0; g + 1 < saved.runs.size(); ++g)
    if (runs[g + 1] > runs[g]) body(held().begin + g % held().count, {runs[g], runs[g + 1] - runs[g]});
}

void ExpertShare::each_part(const Ctx& ctx, const MlpSaved& saved, const Body& body) const {
  const auto parts = static_cast<int64_t>(ctx.parts.size()), step = ctx.parts_per_expert_part;
  const int64_t part_tokens = ctx.parts.front().count * step;
  if (ctx.exec.plan) return body(held().begin, {0, std::min(part_tokens, room(saved.index.rows()))});
  on_cpu(ctx);
  const int32_t* runs = saved.runs.as<int32_t>();
  for (int64_t g = 0; g + 1 < saved.runs.size(); ++g) {
    const int64_t expert = held().begin + g % held().count;
    RowRange r{runs[g], 0};
    for (int64_t u = 0; u < parts; u += step, r.begin += r.count) {
      if (ranks > 1) {
        r.count = counted(saved, static_cast<int>(g / held().count), {u, step}, {expert, 1});
      } else {  // tokens ascend
        const int32_t* token = saved.token.as<int32_t>();
        const int64_t end = ctx.parts[static_cast<size_t>(u)].begin + part_tokens;
        r.count = std::lower_bound(token + r.begin, token + runs[g + 1], end) - (token + r.begin);
      }
      body(expert, r);
    }
  }
}

void check_expert_load(double load) {
  check(load == 0, Code::input, "[train] a rank would get ", std::ceil(load * 100) / 100,
        " times its even share of experts' rows, which is more than parallel.expert_capacity: want at least that, or 0 for room for all");
}

}  // namespace llmctl
