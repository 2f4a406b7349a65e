// SPDX-License-Identifier: Apache-2.0
// LayerNorm on CUDA, in the manner of norm.cu. Not yet run on a GPU.
#include "kernels/norm.h"
#include "kernels/rows_device.h"

namespace llmctl::kn {
namespace {

template <class X, class W, class Y>
__global__ void layer_forward(const X* x, const W* w, const W* b, Y* y, float* mean, float* rstd,
                              int64_t rows, int64_t d, float eps) {
  const DeviceRow r = device_row(rows);
  x += r.row * d, y += r.row * d;
  float sum = 0.0f, squares = 0.0f;
  for (int64_t i = r.lane; i < d; i += kRowLanes) sum += widen(x[i]);
  const float center = row_sum(sum) / static_cast<float>(d);
  for (int64_t i = r.lane; i < d; i += kRowLanes) {
    const float v = widen(x[i]) - center;
    squares = math::fma(v, v, squares);
  }
  const float scale = 1.0f / math::sqrt(row_sum(squares) / static_cast<float>(d) + eps);
  if (!r.live) return;
  for (int64_t i = r.lane; i < d; i += kRowLanes)
    put(y + i, math::fma((widen(x[i]) - center) * scale, widen(w[i]), widen(b[i])));
  if (mean && r.lane == 0) mean[r.row] = center;
  if (rstd && r.lane == 0) rstd[r.row] = scale;
}

template <class G, class X, class W, class D>
__global__ void layer_backward(const G* dy, const X* x, const W* w, const float* mean, const float* rstd,
                               const D* residual, D* dx, int64_t rows, int64_t d) {
  const DeviceRow r = device_row(rows);
  dy += r.row * d, x += r.row * d, dx += r.row * d;
  if (residual) residual += r.row * d;
  const float center = mean[r.row], scale = rstd[r.row];
  float sums = 0.0f, dots = 0.0f;
  for (int64_t i = r.lane; i < d; i += kRowLanes) {
    const float g = widen(dy[i]) * widen(w[i]);
    sums += g;
    dots = math::fma(g, (widen(x[i]) - center) * scale, dots);
  }
  const float a = row_sum(sums) / static_cast<float>(d), c = row_sum(dots) / static_cast<float>(d);
  if (!r.live) return;
  for (int64_t i = r.lane; i < d; i += kRowLanes) {
    const float g = widen(dy[i]) * widen(w[i]), xhat = (widen(x[i]) - center) * scale;
    put(dx + i, math::fma(scale, (g - a) - xhat * c, residual ? widen(residual[i]) : 0.0f));
  }
}

template <class G, class X, class D>
__global__ void layer_weight_gradients(const G* dy, const X* x, const float* mean, const float* rstd,
                                       D* grad_w, D* grad_b, int64_t rows, int64_t d, float limit,
                                       int32_t* overflow, float* chain_w, float* chain_b, bool resume,
                                       bool pause) {
  const int64_t i = global_thread();
  if (i >= d) return;
  float w = resume ? chain_w[i] : 0.0f, b = resume ? chain_b[i] : 0.0f;
  for (int64_t r = 0; r < rows; ++r) {
    const float g = widen(dy[r * d + i]);
    w = math::fma(g, (widen(x[r * d + i]) - mean[r]) * rstd[r], w);
    b += g;
  }
  if (pause) {
    chain_w[i] = w, chain_b[i] = b;
    return;
  }
  add_grad(grad_w + i, w, limit, overflow);
  add_grad(grad_b + i, b, limit, overflow);
}

}  // namespace

void launch(Cuda, const LayerNormFwd& a, const Exec& ex) {
  const int64_t t = a.x.rows(), d = a.x.cols();
  if (t == 0) return;
  by_dtype(a.x, [&](auto* x) {
    by_dtype(a.w, [&](auto* w) {
      by_dtype(a.y, [&](auto* y) {
        layer_forward<<<blocks_for(t, kRowsPerBlock), row_threads(), 0, stream_of(ex)>>>(
            x, w, static_cast<decltype(w)>(a.b.data), y, a.mean.as<float>(), a.rstd.as<float>(), t, d, a.eps);
      });
    });
  });
}

void launch(Cuda, const LayerNormBwd& a, const Exec& ex) {
  const int64_t t = a.x.rows(), d = a.x.cols();
  if (t == 0) return;
  const float *mean = a.mean.as<float>(), *rstd = a.rstd.as<float>();
  by_dtype(a.dy, [&](auto* dy) {
    by_dtype(a.x, [&](auto* x) {
      by_grad(a.grad_w, [&](auto* grad_w) {
        layer_weight_gradients<<<blocks_for(d, kThreads), kThreads, 0, stream_of(ex)>>>(
            dy, x, mean, rstd, grad_w, static_cast<decltype(grad_w)>(a.grad_b.data), t, d,
            fixed_limit(a.parts), a.overflow.as<int32_t>(), a.chain_w.as<float>(), a.chain_b.as<float>(),
            a.resume, a.pause);
      });
      by_dtype(a.w, [&](auto* w) {
        by_dtype(a.dx, [&](auto* dx) {
          layer_backward<<<blocks_for(t, kRowsPerBlock), row_threads(), 0, stream_of(ex)>>>(
              dy, x, w, mean, rstd, static_cast<decltype(dx)>(a.dresidual.data), dx, t, d);
        });
      });
    });
  });
}

}  // namespace llmctl::kn
