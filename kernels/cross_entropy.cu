// SPDX-License-Identifier: Apache-2.0
// Cross-entropy on CUDA: 16 threads a row, the leaf tree as in cross_entropy.cpp. Not yet run on a GPU.
#include "kernels/cross_entropy.h"
#include "kernels/rows_device.h"

namespace llmctl::kn {
namespace {

struct Part {
  float max, sum;
};

__device__ inline Part merge(Part a, Part b) {
  const float top = a.max > b.max ? a.max : b.max;
  return {top, a.sum * exp(a.max - top) + b.sum * exp(b.max - top)};
}

__device__ inline Part leaf_part(const float* x, int64_t width, int lane) {
  float top = -math::kInfinity, sum = 0.0f;
  for (int64_t i = lane; i < width; i += kRowLanes) top = x[i] > top ? x[i] : top;
  top = row_max(top);
  for (int64_t i = lane; i < width; i += kRowLanes) sum += exp(x[i] - top);
  return {top, row_sum(sum)};
}

template <class Make>
__device__ inline Part tree(int count, Make part) {
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

// slice: columns of a leaf; leaves past the end are empty.
__device__ inline Part leaf_tree(const float* x, int64_t vocab, int64_t slice, int lane) {
  return tree(static_cast<int>((vocab + slice - 1) / slice), [&](int leaf) {
    const int64_t begin = leaf * slice, end = begin + slice < vocab ? begin + slice : vocab;
    return leaf_part(x + begin, end - begin, lane);
  });
}

__global__ void cross_entropy_forward(const float* logits, const int32_t* targets, float* loss, float* lse,
                                      int64_t rows, int64_t columns, int64_t vocab, int64_t slice) {
  const DeviceRow r = device_row(rows);
  const float* x = logits + r.row * columns;
  const Part all = leaf_tree(x, vocab, slice, r.lane);
  if (!r.live || r.lane != 0) return;
  const float total = all.max + log(all.sum);
  lse[r.row] = total;
  loss[r.row] = targets[r.row] < 0 ? 0.0f : total - x[targets[r.row]];
}

__global__ void cross_entropy_part(const float* logits, const int32_t* targets, float* part, int64_t rows, int64_t columns,
                                   int64_t vocab, int64_t first, int64_t slice) {
  const DeviceRow r = device_row(rows);
  const float* x = logits + r.row * columns;
  Part all{0.0f, 0.0f};
  if (vocab > 0) all = leaf_tree(x, vocab, slice, r.lane);
  if (!r.live || r.lane != 0) return;
  const int64_t target = targets[r.row] - first;
  part[3 * r.row] = all.max;
  part[3 * r.row + 1] = all.sum;
  part[3 * r.row + 2] = targets[r.row] >= 0 && target >= 0 && target < vocab ? x[target] : 0.0f;
}

__global__ void cross_entropy_join(const float* parts, int64_t used, int64_t columns, const int32_t* targets, float* loss,
                                   float* lse, int64_t rows) {
  const int64_t r = global_thread();
  if (r >= rows) return;
  const Part all = tree(static_cast<int>(used), [&](int i) {
    const float* p = parts + (i * rows + r) * 3;
    return Part{p[0], p[1]};
  });
  lse[r] = all.max + log(all.sum);
  loss[r] = targets[r] < 0 ? 0.0f : lse[r] - parts[(targets[r] / columns * rows + r) * 3 + 2];
}

template <class D>
__global__ void cross_entropy_backward(const float* logits, const int32_t* targets, const float* lse,
                                       D* dlogits, int64_t size, int64_t columns, int64_t vocab, int64_t first,
                                       float scale) {
  const int64_t at = global_thread();
  if (at >= size) return;
  const int64_t r = at / columns, i = at % columns;
  float d = 0.0f;
  if (targets[r] >= 0 && i < vocab) d = (exp(logits[at] - lse[r]) - (i + first == targets[r] ? 1.0f : 0.0f)) * scale;
  put(dlogits + at, d);
}

}  // namespace

void launch(Cuda, const CrossEntropyFwd& a, const Exec& ex) {
  const int64_t rows = a.logits.rows();
  if (rows == 0) return;
  const Span first = leaves_of(a.vocab, a.leaves).span(0, 0);
  cross_entropy_forward<<<blocks_for(rows, kRowsPerBlock), row_threads(), 0, stream_of(ex)>>>(
      a.logits.as<float>(), a.targets.as<int32_t>(), a.loss.as<float>(), a.lse.as<float>(), rows,
      a.logits.cols(), a.vocab, first.end);
}

void launch(Cuda, const CrossEntropyPart& a, const Exec& ex) {
  const int64_t rows = a.logits.rows();
  if (rows == 0) return;
  cross_entropy_part<<<blocks_for(rows, kRowsPerBlock), row_threads(), 0, stream_of(ex)>>>(
      a.logits.as<float>(), a.targets.as<int32_t>(), a.part.as<float>(), rows, a.logits.cols(), a.vocab, a.first,
      a.logits.cols() / a.leaves);
}

void launch(Cuda, const CrossEntropyJoin& a, const Exec& ex) {
  const int64_t rows = a.parts.dim[1];
  if (rows == 0) return;
  cross_entropy_join<<<blocks_for(rows, kThreads), kThreads, 0, stream_of(ex)>>>(
      a.parts.as<float>(), a.used, a.columns, a.targets.as<int32_t>(), a.loss.as<float>(), a.lse.as<float>(), rows);
}

void launch(Cuda, const CrossEntropyBwd& a, const Exec& ex) {
  const int64_t size = a.logits.size();
  if (size == 0) return;
  by_dtype(a.dlogits, [&](auto* dlogits) {
    cross_entropy_backward<<<blocks_for(size, kThreads), kThreads, 0, stream_of(ex)>>>(
        a.logits.as<float>(), a.targets.as<int32_t>(), a.lse.as<float>(), dlogits, size, a.logits.cols(),
        a.vocab, a.first, a.scale);
  });
}

}  // namespace llmctl::kn
