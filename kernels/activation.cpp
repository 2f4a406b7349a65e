// SPDX-License-Identifier: Apache-2.0
// SwiGLU and GELU on the CPU: blocks of 16 Ki elements.
#include "kernels/activation.h"

#include "kernels/pointwise.h"
#include "kernels/rows.h"
#include "kernels/simd.h"

namespace llmctl::kn {

#if KN_ONCE
namespace {
void check_same(const char* who, const char* name, const View& v, const View& like) {
  check_rows(who, name, v, like.rows(), like.cols());
  check(v.dtype == like.dtype, Code::bug, "[", who, "] ", name, " is ", name_of(v.dtype), ": want ",
        name_of(like.dtype));
}
}  // namespace

void SwigluFwd::check() const {
  check_rows(kName, "y", y, y.rows(), y.cols());
  check_rows(kName, "x", x, y.rows(), 2 * y.cols());
}
void SwigluBwd::check() const {
  check_rows(kName, "dy", dy, dy.rows(), dy.cols());
  check_rows(kName, "x", x, dy.rows(), 2 * dy.cols());
  check_same(kName, "dx", dx, x);
}
void GeluFwd::check() const {
  check_rows(kName, "x", x, x.rows(), x.cols());
  check_rows(kName, "y", y, x.rows(), x.cols());
}
void GeluBwd::check() const {
  check_rows(kName, "x", x, x.rows(), x.cols());
  check_rows(kName, "dy", dy, x.rows(), x.cols());
  check_same(kName, "dx", dx, dy);
}
#endif

namespace {

constexpr int64_t kBlock = 16384;

template <class X, class Y>
void swiglu_row(const X* x, Y* y, int64_t f) {
  for_lanes(f, [&](int64_t i, int64_t n) {
    store_row(y + i, mul(silu(load_row(x + i, n)), load_row(x + f + i, n)), n);
  });
}

template <class X, class G>
void swiglu_backward_row(const X* x, const G* dy, X* dx, int64_t f) {
  for_lanes(f, [&](int64_t i, int64_t n) {
    const auto d = math::swiglu_slopes(load_row(x + i, n), load_row(x + f + i, n), load_row(dy + i, n));
    store_row(dx + i, d.gate, n);
    store_row(dx + f + i, d.up, n);
  });
}

template <class Kind>
void gelu_forward(const GeluFwd& a, const Exec& ex) {
  by_dtype(a.x, [&](auto* x) {
    by_dtype(a.y, [&](auto* y) {
      for_blocks(ex, a.x.size(), kBlock, [&](int64_t begin, int64_t end) {
        for_lanes(end - begin, [&](int64_t i, int64_t n) {
          store_row(y + begin + i, Kind::value(load_row(x + begin + i, n)), n);
        });
      });
    });
  });
}

template <class Kind>
void gelu_backward(const GeluBwd& a, const Exec& ex) {
  by_dtype(a.x, [&](auto* x) {
    by_dtype(a.dy, [&](auto* dy) {
      auto* dx = static_cast<decltype(dy)>(a.dx.data);
      for_blocks(ex, a.x.size(), kBlock, [&](int64_t begin, int64_t end) {
        for_lanes(end - begin, [&](int64_t i, int64_t n) {
          const F32 g = load_row(dy + begin + i, n);
          store_row(dx + begin + i, mul(g, Kind::slope(load_row(x + begin + i, n))), n);
        });
      });
    });
  });
}

}  // namespace

void launch(KN_CPU, const SwigluFwd& a, const Exec& ex) {
  const int64_t t = a.y.rows(), f = a.y.cols();
  by_dtype(a.x, [&](auto* x) {
    by_dtype(a.y, [&](auto* y) {
      for_blocks(ex, t, rows_per_task(f), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) swiglu_row(x + r * 2 * f, y + r * f, f);
      });
    });
  });
}

void launch(KN_CPU, const SwigluBwd& a, const Exec& ex) {
  const int64_t t = a.dy.rows(), f = a.dy.cols();
  by_dtype(a.x, [&](auto* x) {
    by_dtype(a.dy, [&](auto* dy) {
      auto* dx = static_cast<decltype(x)>(a.dx.data);
      for_blocks(ex, t, rows_per_task(f), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r)
          swiglu_backward_row(x + r * 2 * f, dy + r * f, dx + r * 2 * f, f);
      });
    });
  });
}

void launch(KN_CPU, const GeluFwd& a, const Exec& ex) {
  a.kind == GeluKind::tanh ? gelu_forward<math::GeluTanh>(a, ex) : gelu_forward<math::GeluErf>(a, ex);
}

void launch(KN_CPU, const GeluBwd& a, const Exec& ex) {
  a.kind == GeluKind::tanh ? gelu_backward<math::GeluTanh>(a, ex) : gelu_backward<math::GeluErf>(a, ex);
}

}  // namespace llmctl::kn
