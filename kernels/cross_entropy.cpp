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
  check(vocab >= 0 && vocab <= logits.cols(), Code::bug, "[", who, "] vocab is ", vocab, " and logits have ",
        logits.cols(), " columns");
  check_vector(who, "targets", targets, DType::i32, logits.rows());
}
}  // namespace

void CrossEntropyFwd::check() const {
  check_logits(kName, logits, vocab, targets);
  llmctl::check(vocab >= 1, Code::bug, "[", kName, "] vocab is 0");
  check_vector(kName, "loss", loss, DType::f32, logits.rows());
  check_vector(kName, "lse", lse, DType::f32, logits.rows());
  llmctl::check(leaves >= 1 && leaves <= Leaves::kMax && (leaves & (leaves - 1)) == 0, Code::bug, "[", kName,
                "] ", leaves, " leaves: want a power of two up to ", Leaves::kMax);
}

void CrossEntropyPart::check() const {
  check_logits(kName, logits, vocab, targets);
  check_rows(kName, "part", part, logits.rows(), 3);
  llmctl::check(part.dtype == DType::f32 && leaves >= 1 && leaves <= Leaves::kMax && logits.cols() % (32 * leaves) == 0, Code::bug,
                "[", kName, "] ", logits.cols(), " columns in ", leaves, " leaves, part ", name_of(part.dtype));
}

void CrossEntropyJoin::check() const {
  llmctl::check(parts.rank == 3 && parts.dtype == DType::f32 && parts.dim[0] <= Leaves::kMax && parts.dim[2] == 3 && used >= 1 &&
                    used <= parts.dim[0] && columns >= 1,
                Code::bug, "[", kName, "] ", used, " of ", parts.dim[0], " parts of ", columns, " columns");
  check_vector(kName, "targets", targets, DType::i32, parts.dim[1]);
  check_vector(kName, "loss", loss, DType::f32, parts.dim[1]);
  check_vector(kName, "lse", lse, DType::f32, parts.dim[1]);
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

// The balanced tree over so many parts, made like a binary counter: part(i) of the ones that are not empty,
// which are the first.
template <class Make>
Part tree(int count, Make&& part) {
  Part stack[Leaves::kMax];
  int depth = 0;
  for (int i = 0; i < count; ++i) {
    stack[depth++] = part(i);
    for (int done = i + 1; done % 2 == 0; done /= 2, --depth)
      stack[depth - 2] = merge(stack[depth - 2], stack[depth - 1]);
  }
  for (; depth > 1; --depth) stack[depth - 2] = merge(stack[depth - 2], stack[depth - 1]);
  return stack[0];
}

// Of leaves of `slice` columns.
Part leaf_tree(const float* x, int64_t vocab, int64_t slice) {
  return tree(static_cast<int>((vocab + slice - 1) / slice), [&](int leaf) {
    const int64_t begin = leaf * slice, left = vocab - begin;
    return leaf_part(x + begin, left < slice ? left : slice);
  });
}

template <class D>
void gradient_row(const float* x, int64_t vocab, int64_t columns, bool counts, int32_t target, float lse, float scale,
                  D* dx) {
  if (!counts) {
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
  const int64_t slice = leaves_of(a.vocab, a.leaves).span(0, 0).end;
  for_blocks(ex, a.logits.rows(), rows_per_task(columns), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float* x = logits + r * columns;
      const Part all = leaf_tree(x, a.vocab, slice);
      const float lse = all.max + log(all.sum);
      a.lse.as<float>()[r] = lse;
      a.loss.as<float>()[r] = targets[r] < 0 ? 0.0f : lse - x[targets[r]];
    }
  });
}

void launch(KN_CPU, const CrossEntropyPart& a, const Exec& ex) {
  const int64_t columns = a.logits.cols(), slice = columns / a.leaves;
  const float* logits = a.logits.as<float>();
  const int32_t* targets = a.targets.as<int32_t>();
  for_blocks(ex, a.logits.rows(), rows_per_task(columns), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      float* out = a.part.as<float>() + 3 * r;
      const int64_t target = targets[r] - a.first;
      const Part all = a.vocab > 0 ? leaf_tree(logits + r * columns, a.vocab, slice) : Part{0.0f, 0.0f};
      out[0] = all.max, out[1] = all.sum;
      out[2] = targets[r] >= 0 && target >= 0 && target < a.vocab ? logits[r * columns + target] : 0.0f;
    }
  });
}

void launch(KN_CPU, const CrossEntropyJoin& a, const Exec& ex) {
  const int64_t rows = a.parts.dim[1];
  const float* parts = a.parts.as<float>();
  const int32_t* targets = a.targets.as<int32_t>();
  for_blocks(ex, rows, 1024, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const auto part = [&](int64_t i) { return parts + (i * rows + r) * 3; };
      const Part all = tree(static_cast<int>(a.used), [&](int i) { return Part{part(i)[0], part(i)[1]}; });
      const float lse = all.max + log(all.sum);
      a.lse.as<float>()[r] = lse;
      a.loss.as<float>()[r] = targets[r] < 0 ? 0.0f : lse - part(targets[r] / a.columns)[2];
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
        gradient_row(logits + r * columns, a.vocab, columns, targets[r] >= 0, targets[r] - static_cast<int32_t>(a.first), lse[r],
                     a.scale, dlogits + r * columns);
    });
  });
}

}  // namespace llmctl::kn
