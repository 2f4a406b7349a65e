// SPDX-License-Identifier: Apache-2.0
#include "kernels/fixed.h"
#include "kernels/gemm.h"
#include "kernels/simd.h"

namespace llmctl::kn {

#if KN_ONCE
void BiasGrad::check() const {
  using llmctl::check;
  check(dy.dtype == DType::f32 || dy.dtype == DType::bf16, Code::bug, "[bias_grad] dy is ",
        name_of(dy.dtype), ", expected f32 or bf16");
  check((grad.dtype == DType::f32 || grad.dtype == DType::i64) && grad.size() == dy.cols(),
        Code::bug, "[bias_grad] grad has ", grad.size(), " elements and dy ", dy.cols(), " columns");
  check(grad.dtype != DType::i64 ||
            (parts >= 1 && overflow.dtype == DType::i32 && overflow.size() == 1),
        Code::bug, "[bias_grad] fixed point wants parts >= 1 (got ", parts, ") and an overflow flag");
  check(!(resume || pause) || (chain.dtype == DType::f32 && chain.size() == dy.cols()), Code::bug,
        "[bias_grad] chain has ", chain.size(), " elements and dy ", dy.cols(), " columns");
}
#endif

namespace {

constexpr int kStrips = 4;  // independent chains, and a whole cache line of bf16 per token

template <class T, class G>
void sum_columns(const BiasGrad& op, int64_t first, T* dy, G* grad) {
  const int64_t cols = op.dy.cols(), tokens = op.dy.rows();
  const int64_t left = cols - first;
  float* chain = op.chain.as<float>();
  F32 sum[kStrips];
  for (int s = 0; s < kStrips; ++s) {
    const int64_t n = left - s * 16 < 16 ? left - s * 16 : 16;
    sum[s] = op.resume && n > 0 ? load(chain + first + s * 16, n) : zero();
  }
  for (int64_t t = 0; t < tokens; ++t)
    for (int s = 0; s < kStrips; ++s) {
      const int64_t n = left - s * 16 < 16 ? left - s * 16 : 16;
      if (n > 0) sum[s] = add(sum[s], load_row(dy + t * cols + first + s * 16, n));
    }
  FixedAdder adder = fixed_adder(op.parts);
  for (int s = 0; s < kStrips; ++s) {
    const int64_t n = left - s * 16 < 16 ? left - s * 16 : 16;
    if (n > 0 && op.pause)
      store(chain + first + s * 16, sum[s], n);
    else if (n > 0)
      add_grad(adder, grad + first + s * 16, sum[s], n);
  }
  if (refused(adder)) raise_flag(op.overflow.as<int32_t>());
}

template <class T>
void sum_all(const BiasGrad& op, const Exec& ex) {
  const int64_t width = kStrips * 16;
  parallel_for(ex, (op.dy.cols() + width - 1) / width, [&](int64_t i) {
    if (op.grad.dtype == DType::i64)
      sum_columns(op, i * width, op.dy.as<T>(), op.grad.as<int64_t>());
    else
      sum_columns(op, i * width, op.dy.as<T>(), op.grad.as<float>());
  });
}

}  // namespace

void launch(KN_CPU, const BiasGrad& op, const Exec& ex) {
  op.dy.dtype == DType::f32 ? sum_all<float>(op, ex) : sum_all<bf16_t>(op, ex);
}

}  // namespace llmctl::kn
