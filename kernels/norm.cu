// SPDX-License-Identifier: Apache-2.0
// RMSNorm on CUDA: 16 threads a row; a thread a column of the weight's gradient. Not yet run on a GPU.
#include "kernels/norm.h"
#include "kernels/rows_device.h"

namespace llmctl::kn {
namespace {

template <class X, class W, class Y>
__global__ void rms_forward(const X* x, const W* w, Y* y, float* rstd, int64_t rows, int64_t d, float eps) {
  const DeviceRow r = device_row(rows);
  x += r.row * d, y += r.row * d;
  float squares = 0.0f;
  for (int64_t i = r.lane; i < d; i += kRowLanes) squares = math::fma(widen(x[i]), widen(x[i]), squares);
  const float scale = 1.0f / math::sqrt(row_sum(squares) / static_cast<float>(d) + eps);
  if (!r.live) return;
  for (int64_t i = r.lane; i < d; i += kRowLanes) put(y + i, widen(x[i]) * scale * widen(w[i]));
  if (rstd && r.lane == 0) rstd[r.row] = scale;
}

template <class G, class X, class W, class D>
__global__ void rms_backward(const G* dy, const X* x, const W* w, const float* rstd, const D* residual, D* dx,
                             int64_t rows, int64_t d) {
  const DeviceRow r = device_row(rows);
  dy += r.row * d, x += r.row * d, dx += r.row * d;
  if (residual) residual += r.row * d;
  const float scale = rstd[r.row];
  float dots = 0.0f;
  for (int64_t i = r.lane; i < d; i += kRowLanes)
    dots = math::fma(widen(dy[i]) * widen(w[i]), widen(x[i]) * scale, dots);
  const float c = row_sum(dots) / static_cast<float>(d);
  if (!r.live) return;
  for (int64_t i = r.lane; i < d; i += kRowLanes) {
    const float t = widen(dy[i]) * widen(w[i]) - widen(x[i]) * scale * c;
    put(dx + i, math::fma(scale, t, residual ? widen(residual[i]) : 0.0f));
  }
}

template <class G, class X, class D>
__global__ void rms_weight_gradient(const G* dy, const X* x, const float* rstd, D* grad, int64_t rows,
                                    int64_t d, float limit, int32_t* overflow, float* chain, bool resume,
                                    bool pause) {
  const int64_t i = global_thread();
  if (i >= d) return;
  float sum = resume ? chain[i] : 0.0f;
  for (int64_t r = 0; r < rows; ++r)
    sum = math::fma(widen(dy[r * d + i]), widen(x[r * d + i]) * rstd[r], sum);
  if (pause)
    chain[i] = sum;
  else
    add_grad(grad + i, sum, limit, overflow);
}

}  // namespace

void launch(Cuda, const RmsNormFwd& a, const Exec& ex) {
  const int64_t t = a.x.rows(), d = a.x.cols();
  if (t == 0) return;
  by_dtype(a.x, [&](auto* x) {
    by_dtype(a.w, [&](auto* w) {
      by_dtype(a.y, [&](auto* y) {
        rms_forward<<<blocks_for(t, kRowsPerBlock), row_threads(), 0, stream_of(ex)>>>(
            x, w, y, a.rstd.as<float>(), t, d, a.eps);
      });
    });
  });
}

void launch(Cuda, const RmsNormBwd& a, const Exec& ex) {
  const int64_t t = a.x.rows(), d = a.x.cols();
  if (t == 0) return;
  const float* rstd = a.rstd.as<float>();
  by_dtype(a.dy, [&](auto* dy) {
    by_dtype(a.x, [&](auto* x) {
      by_grad(a.grad, [&](auto* grad) {
        rms_weight_gradient<<<blocks_for(d, kThreads), kThreads, 0, stream_of(ex)>>>(
            dy, x, rstd, grad, t, d, fixed_limit(a.parts), a.overflow.as<int32_t>(), a.chain.as<float>(), a.resume,
            a.pause);
      });
      by_dtype(a.w, [&](auto* w) {
        by_dtype(a.dx, [&](auto* dx) {
          rms_backward<<<blocks_for(t, kRowsPerBlock), row_threads(), 0, stream_of(ex)>>>(
              dy, x, w, rstd, static_cast<decltype(dx)>(a.dresidual.data), dx, t, d);
        });
      });
    });
  });
}

}  // namespace llmctl::kn
