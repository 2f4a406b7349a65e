// SPDX-License-Identifier: Apache-2.0
// SwiGLU and GELU on CUDA: a thread an element, pointwise.h's formulas. Not yet run on a GPU.
#include "kernels/activation.h"
#include "kernels/pointwise.h"
#include "kernels/rows_device.h"

namespace llmctl::kn {
namespace {

template <class X, class Y>
__global__ void swiglu_forward(const X* x, Y* y, int64_t size, int64_t f) {
  const int64_t at = global_thread();
  if (at >= size) return;
  const X* gate = x + at / f * 2 * f + at % f;
  put(y + at, silu(widen(gate[0])) * widen(gate[f]));
}

template <class X, class G>
__global__ void swiglu_backward(const X* x, const G* dy, X* dx, int64_t size, int64_t f) {
  const int64_t at = global_thread();
  if (at >= size) return;
  const int64_t gate = at / f * 2 * f + at % f;
  const auto d = math::swiglu_slopes(widen(x[gate]), widen(x[gate + f]), widen(dy[at]));
  put(dx + gate, d.gate);
  put(dx + gate + f, d.up);
}

template <class Kind, class X, class Y>
__global__ void gelu_forward(const X* x, Y* y, int64_t size) {
  const int64_t at = global_thread();
  if (at < size) put(y + at, Kind::value(widen(x[at])));
}

template <class Kind, class X, class G>
__global__ void gelu_backward(const X* x, const G* dy, G* dx, int64_t size) {
  const int64_t at = global_thread();
  if (at < size) put(dx + at, widen(dy[at]) * Kind::slope(widen(x[at])));
}

template <class Kind>
void gelu_forward_of(const GeluFwd& a, cudaStream_t stream) {
  by_dtype(a.x, [&](auto* x) {
    by_dtype(a.y, [&](auto* y) {
      gelu_forward<Kind><<<blocks_for(a.x.size(), kThreads), kThreads, 0, stream>>>(x, y, a.x.size());
    });
  });
}

template <class Kind>
void gelu_backward_of(const GeluBwd& a, cudaStream_t stream) {
  by_dtype(a.x, [&](auto* x) {
    by_dtype(a.dy, [&](auto* dy) {
      gelu_backward<Kind><<<blocks_for(a.x.size(), kThreads), kThreads, 0, stream>>>(
          x, dy, static_cast<decltype(dy)>(a.dx.data), a.x.size());
    });
  });
}

}  // namespace

void launch(Cuda, const SwigluFwd& a, const Exec& ex) {
  const int64_t size = a.y.size();
  if (size == 0) return;
  by_dtype(a.x, [&](auto* x) {
    by_dtype(a.y, [&](auto* y) {
      swiglu_forward<<<blocks_for(size, kThreads), kThreads, 0, stream_of(ex)>>>(x, y, size, a.y.cols());
    });
  });
}

void launch(Cuda, const SwigluBwd& a, const Exec& ex) {
  const int64_t size = a.dy.size();
  if (size == 0) return;
  by_dtype(a.x, [&](auto* x) {
    by_dtype(a.dy, [&](auto* dy) {
      swiglu_backward<<<blocks_for(size, kThreads), kThreads, 0, stream_of(ex)>>>(
          x, dy, static_cast<decltype(x)>(a.dx.data), size, a.dy.cols());
    });
  });
}

void launch(Cuda, const GeluFwd& a, const Exec& ex) {
  if (a.x.size() == 0) return;
  a.kind == GeluKind::tanh ? gelu_forward_of<math::GeluTanh>(a, stream_of(ex))
                           : gelu_forward_of<math::GeluErf>(a, stream_of(ex));
}

void launch(Cuda, const GeluBwd& a, const Exec& ex) {
  if (a.x.size() == 0) return;
  a.kind == GeluKind::tanh ? gelu_backward_of<math::GeluTanh>(a, stream_of(ex))
                           : gelu_backward_of<math::GeluErf>(a, stream_of(ex));
}

}  // namespace llmctl::kn
