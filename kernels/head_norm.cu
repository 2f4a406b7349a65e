// SPDX-License-Identifier: Apache-2.0
// RMSNorm of heads on CUDA: 16 threads a head; a thread a column of a weight's gradient. Not yet run on a GPU.
#include "kernels/head_norm.h"
#include "kernels/rows_device.h"

namespace llmctl::kn {
namespace {

// Which heads there are: rows of a token are queries, keys, values.
struct Heads {
  int64_t queries, normed, all, width;
};

template <class X, class W>
__global__ void head_forward(const X* x, const W* query, const W* key, X* y, float* rstd, int64_t rows, Heads h, float eps) {
  const DeviceRow r = device_row(rows);
  const int64_t head = r.row % h.all;
  const W* w = head < h.queries ? query : key;
  x += r.row * h.width, y += r.row * h.width;
  float squares = 0.0f;
  for (int64_t i = r.lane; i < h.width; i += kRowLanes) squares = math::fma(widen(x[i]), widen(x[i]), squares);
  const float scale = 1.0f / math::sqrt(row_sum(squares) / static_cast<float>(h.width) + eps);
  if (!r.live) return;
  for (int64_t i = r.lane; i < h.width; i += kRowLanes) {
    if (head < h.normed)
      put(y + i, widen(x[i]) * scale * widen(w[i]));
    else
      y[i] = x[i];
  }
  if (rstd && head < h.normed && r.lane == 0) rstd[r.row / h.all * h.normed + head] = scale;
}

template <class X, class W>
__global__ void head_backward(const X* dy, const X* x, const W* query, const W* key, const float* rstd, X* dx, int64_t rows,
                              Heads h) {
  const DeviceRow r = device_row(rows);
  const int64_t head = r.row % h.all;
  const bool normed = head < h.normed;
  const W* w = head < h.queries ? query : key;
  dy += r.row * h.width, x += r.row * h.width, dx += r.row * h.width;
  const float scale = normed ? rstd[r.row / h.all * h.normed + head] : 0.0f;
  float dots = 0.0f;
  for (int64_t i = r.lane; i < h.width; i += kRowLanes)
    dots = math::fma(widen(dy[i]) * widen(w[i]), widen(x[i]) * scale, dots);
  const float c = row_sum(dots) / static_cast<float>(h.width);
  if (!r.live) return;
  for (int64_t i = r.lane; i < h.width; i += kRowLanes) {
    if (normed)
      put(dx + i, math::fma(scale, widen(dy[i]) * widen(w[i]) - widen(x[i]) * scale * c, 0.0f));
    else
      dx[i] = dy[i];
  }
}

struct WeightSum {
  int64_t first, count, tokens;
  float limit;
  int32_t* overflow;
  float* chain;
  bool resume, pause;
};

template <class X, class D>
__global__ void head_weight_gradient(const X* dy, const X* x, const float* rstd, D* grad, Heads h, WeightSum s) {
  const int64_t i = global_thread();
  if (i >= h.width) return;
  float sum = s.resume ? s.chain[i] : 0.0f;
  for (int64_t t = 0; t < s.tokens; ++t)
    for (int64_t head = s.first; head < s.first + s.count; ++head) {
      const int64_t at = (t * h.all + head) * h.width + i;
      sum = math::fma(widen(dy[at]), widen(x[at]) * rstd[t * h.normed + head], sum);
    }
  if (s.pause)
    s.chain[i] = sum;
  else
    add_grad(grad + i, sum, s.limit, s.overflow);
}

Heads heads_of(const View& x, int64_t heads, int64_t kv_heads) {
  return {heads, heads + kv_heads, heads + 2 * kv_heads, x.cols()};
}

}  // namespace

void launch(Cuda, const HeadNormFwd& a, const Exec& ex) {
  const int64_t rows = a.x.rows();
  if (rows == 0) return;
  by_dtype(a.x, [&](auto* x) {
    by_dtype(a.w_query, [&](auto* query) {
      head_forward<<<blocks_for(rows, kRowsPerBlock), row_threads(), 0, stream_of(ex)>>>(
          x, query, static_cast<decltype(query)>(a.w_key.data), static_cast<decltype(x)>(a.y.data), a.rstd.as<float>(),
          rows, heads_of(a.x, a.heads, a.kv_heads), a.eps);
    });
  });
}

void launch(Cuda, const HeadNormBwd& a, const Exec& ex) {
  const int64_t rows = a.x.rows(), d = a.x.cols();
  if (rows == 0) return;
  const Heads heads = heads_of(a.x, a.heads, a.kv_heads);
  const float limit = fixed_limit(a.parts), *rstd = a.rstd.as<float>();
  const WeightSum query{0, a.heads, a.x.dim[0], limit, a.overflow_query.as<int32_t>(), a.chain_query.as<float>(),
                        a.resume, a.pause};
  const WeightSum key{a.heads, a.kv_heads, a.x.dim[0], limit, a.overflow_key.as<int32_t>(), a.chain_key.as<float>(),
                      a.resume, a.pause};
  by_dtype(a.x, [&](auto* x) {
    const auto* dy = static_cast<decltype(x)>(a.dy.data);
    const auto sum = [&](const View& to, const WeightSum& s) {
      by_grad(to, [&](auto* grad) {
        head_weight_gradient<<<blocks_for(d, kThreads), kThreads, 0, stream_of(ex)>>>(dy, x, rstd, grad, heads, s);
      });
    };
    sum(a.grad_query, query);
    sum(a.grad_key, key);
    by_dtype(a.w_query, [&](auto* w) {
      head_backward<<<blocks_for(rows, kRowsPerBlock), row_threads(), 0, stream_of(ex)>>>(
          dy, x, w, static_cast<decltype(w)>(a.w_key.data), rstd, static_cast<decltype(x)>(a.dx.data), rows, heads);
    });
  });
}

}  // namespace llmctl::kn
