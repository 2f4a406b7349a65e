// SPDX-License-Identifier: Apache-2.0
// Cross-entropy on the CPU: a task is a few rows; a row is cut into vocabulary leaves.
#include "kernels/cross_entropy.h"

#include "kernels/rows.h"
#include "kernels/simd.h"

namespace llmctl::kn {

#if KN_ONCE
namespace {
void check_logits(const char* who, const View& logits, int64_t vocab, const View& targets) {
  check(logits.dtype == DType::f32, Code::bug, "[", who, "] logits are ", name_of(logits.dtype),
        ": want f32");
  check(vocab >= 1 && vocab <= logits.cols(), Code::bug, "[", who, "] vocab is ", vocab, " and logits have ",
        logits.cols(), " columns");
  check_vector(who, "targets", targets, DType::i32, logits.rows());
}
}  // namespace

void CrossEntropyFwd::check() const {
  check_logits(kName, logits, vocab, targets);
  check_vector(kName, "loss", loss, DType::f32, logits.rows());
  check_vector(kName, "lse", lse, DType::f32, logits.rows());
  llmctl::check(leaves >= 1 && leaves <= Leaves::kMax && (leaves & (leaves - 1)) == 0, Code::bug, "[", kName,
                "] ", leaves, " leaves: want a power of two up to ", Leaves::kMax);
}

void CrossEntropyBwd::check() const {
  check_logits(kName, logits, vocab, targets);
  check_vector(kName, "lse", lse, DType::f32, logits.rows());
  check_rows(kName, "dlogits", dlogits, logits.rows(), logits.cols());
}
#endif

namespace {

// sum of exp(x - max) over what it covers.
struct Part {
  float max, sum;
};

Part leaf_part(const float* x, int64_t width) {
  const F32 lowest = set1(-math::kInfinity);
  F32 most[4] = {lowest, lowest, lowest, lowest};  // the order of a maximum is free
  for_lanes(width, [&](int64_t i, int64_t n) {
    F32& m = most[i / kLanes % 4];
    m = max(m, keep(load(x + i, n), n, lowest));
  });
  const float top = max16(max(max(most[0], most[1]), max(most[2], most[3])));
  F32 sum = zero();
  for_lanes(width, [&](int64_t i, int64_t n) {
    sum = add(sum, exp(sub(keep(load(x + i, n), n, lowest), set1(top))));
  });
  return {top, sum16(sum)};
}

Part merge(Part a, Part b) {
  const float top = a.max > b.max ? a.max : b.max;
  return {top, a.sum * exp(a.max - top) + b.sum * exp(b.max - top)};
}

// The balanced tree over leaves, made like a binary counter; empty leaves are all at the end.
float log_sum_exp(const float* x, const Leaves& leaves) {
  Part stack[Leaves::kMax];
  int depth = 0;
  for (int leaf = 0; leaf < leaves.count && !leaves.empty(leaf); ++leaf) {
    const Span s = leaves.span(leaf, 0);
    stack[depth++] = leaf_part(x + s.begin, s.end - s.begin);
    for (int done = leaf + 1; done % 2 == 0; done /= 2, --depth)
      stack[depth - 2] = merge(stack[depth - 2], stack[depth - 1]);
  }
  for (; depth > 1; --depth) stack[depth - 2] = merge(stack[depth - 2], stack[depth - 1]);
  return stack[0].max + log(stack[0].sum);
}

template <class D>
void gradient_row(const float* x, int64_t vocab, int64_t columns, int32_t target, float lse, float scale,
                  D* dx) {
  if (target < 0) {
    for_lanes(columns, [&](int64_t i, int64_t n) { store_row(dx + i, zero(), n); });
    return;
  }
  const F32 norm = set1(lse), factor = set1(scale);
  for_lanes(vocab, [&](int64_t i, int64_t n) {
    const F32 p = exp(sub(load(x + i, n), norm));
    const Mask here = ieq(iadd(iota(), iset1(static_cast<int32_t>(i))), iset1(target));
    store_row(dx + i, mul(sub(p, select(here, set1(1.0f), zero())), factor), n);
  });
  for_lanes(columns - vocab, [&](int64_t i, int64_t n) { store_row(dx + vocab + i, zero(), n); });
}

}  // namespace

void launch(KN_CPU, const CrossEntropyFwd& a, const Exec& ex) {
  const int64_t columns = a.logits.cols();
  const float* logits = a.logits.as<float>();
  const int32_t* targets = a.targets.as<int32_t>();
  const Leaves leaves = leaves_of(a.vocab, a.leaves);
  for_blocks(ex, a.logits.rows(), rows_per_task(columns), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float* x = logits + r * columns;
      const float lse = log_sum_exp(x, leaves);
      a.lse.as<float>()[r] = lse;
      a.loss.as<float>()[r] = targets[r] < 0 ? 0.0f : lse - x[targets[r]];
    }
  });
}

void launch(KN_CPU, const CrossEntropyBwd& a, const Exec& ex) {
  const int64_t columns = a.logits.cols();
  const float *logits = a.logits.as<float>(), *lse = a.lse.as<float>();
  const int32_t* targets = a.targets.as<int32_t>();
  by_dtype(a.dlogits, [&](auto* dlogits) {
    for_blocks(ex, a.logits.rows(), rows_per_task(columns), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r)
        gradient_row(logits + r * columns, a.vocab, columns, targets[r], lse[r], a.scale,
                     dlogits + r * columns);
    });
  });
}

}  // namespace llmctl::kn
