// SPDX-License-Identifier: Apache-2.0
// The router on CUDA: a row is 16 threads, as in rows_device.h; choosing is one thread's work. Statistics
// are integer atomics. Not yet run on a GPU.
#include "kernels/math.h"
#include "kernels/router.h"
#include "kernels/rows_device.h"

namespace llmctl::kn {
namespace {

struct Softmax {
  float max, sum;
};

__device__ Softmax softmax_of(const float* x, int64_t experts, int lane) {
  float most = -math::kInfinity, sum = 0;
  for (int64_t e = lane; e < experts; e += kRowLanes) most = x[e] > most ? x[e] : most;
  most = row_max(most);
  for (int64_t e = lane; e < experts; e += kRowLanes) sum += math::exp(x[e] - most);
  return {most, row_sum(sum)};
}
__device__ float probability(float x, const Softmax& s) { return math::exp(x - s.max) / s.sum; }
__device__ float chosen_sum(const float* x, const int32_t* index, int64_t k, const Softmax& s) {
  float sum = 0;
  for (int64_t j = 0; j < k; ++j) sum += probability(x[index[j]], s);
  return sum;
}

// The largest logit that is not chosen yet, ties to the lower index; any where none is a number.
__device__ int32_t next_expert(const float* x, int64_t experts, const int32_t* chosen, int64_t n) {
  int32_t best = -1;
  for (int32_t e = 0; e < experts; ++e) {
    bool taken = false;
    for (int64_t j = 0; j < n; ++j) taken |= chosen[j] == e;
    if (!taken && (best < 0 || x[e] > x[best])) best = e;
  }
  return best;
}

__global__ void route_rows(const float* logits, int32_t* index, float* weight, int64_t rows, int64_t experts, int64_t k,
                           bool renormalise) {
  const DeviceRow at = device_row(rows);
  const float* x = logits + at.row * experts;
  const Softmax s = softmax_of(x, experts, at.lane);
  if (!at.live || at.lane != 0) return;
  int32_t* chosen = index + at.row * k;
  for (int64_t j = 0; j < k; ++j) chosen[j] = next_expert(x, experts, chosen, j);
  for (int64_t j = 1; j < k; ++j)  // into ascending order
    for (int64_t i = j; i > 0 && chosen[i] < chosen[i - 1]; --i) {
      const int32_t t = chosen[i];
      chosen[i] = chosen[i - 1], chosen[i - 1] = t;
    }
  const float by = renormalise ? chosen_sum(x, chosen, k, s) : 1.0f;
  for (int64_t j = 0; j < k; ++j) {
    const float p = probability(x[chosen[j]], s);
    weight[at.row * k + j] = renormalise ? p / by : p;
  }
}

struct Backward {
  const float* logits;
  const int32_t* index;
  const float *weight, *dweight;
  const int64_t* counts;
  int64_t rows, experts, k;
  float balance, z;
  bool renormalise;
};

// g of one expert (router.h).
__device__ float slope(const Backward& a, const DeviceRow& at, int64_t e, float dot, float by) {
  float g = a.counts ? a.balance * static_cast<float>(a.counts[e]) : 0.0f;
  for (int64_t j = 0; j < a.k; ++j)
    if (a.index[at.row * a.k + j] == e) {
      const float d = a.dweight[at.row * a.k + j];
      g += a.renormalise ? (d - dot) / by : d;
    }
  return g;
}

template <class D>
__global__ void backward_rows(Backward a, D* dlogits) {
  const DeviceRow at = device_row(a.rows);
  const float* x = a.logits + at.row * a.experts;
  const Softmax s = softmax_of(x, a.experts, at.lane);
  float dot = 0, by = 1.0f;
  if (a.renormalise) {
    by = chosen_sum(x, a.index + at.row * a.k, a.k, s);
    for (int64_t j = 0; j < a.k; ++j) dot = fmaf(a.dweight[at.row * a.k + j], a.weight[at.row * a.k + j], dot);
  }
  float mean = 0;
  for (int64_t e = at.lane; e < a.experts; e += kRowLanes)
    mean = fmaf(slope(a, at, e, dot, by), probability(x[e], s), mean);
  mean = row_sum(mean);
  const float z = a.z * (s.max + math::log(s.sum));
  if (!at.live) return;
  for (int64_t e = at.lane; e < a.experts; e += kRowLanes)
    put(dlogits + at.row * a.experts + e, probability(x[e], s) * ((slope(a, at, e, dot, by) - mean) + z));
}

__device__ void add_to(int64_t* sum, int64_t value) {
  atomicAdd(reinterpret_cast<unsigned long long*>(sum), static_cast<unsigned long long>(value));
}

__global__ void count_rows(const float* logits, const int32_t* index, int64_t* stats, int64_t rows, int64_t experts,
                           int64_t k) {
  const DeviceRow at = device_row(rows);
  const float* x = logits + at.row * experts;
  const Softmax s = softmax_of(x, experts, at.lane);
  if (!at.live) return;
  for (int64_t j = at.lane; j < k; j += kRowLanes) add_to(stats + index[at.row * k + j], 1);
  for (int64_t e = at.lane; e < experts; e += kRowLanes)
    if (const float p = probability(x[e], s); fits_fixed(p, fixed_limit(1))) add_to(stats + experts + e, to_fixed(p));
  const float lse = s.max + math::log(s.sum), square = lse * lse;
  if (at.lane == 0 && square < 0x1p40f) add_to(stats + 2 * experts, to_fixed(square * 0x1p-20f));
}

}  // namespace

void launch(Cuda, const RouterFwd& a, const Exec& ex) {
  const int64_t rows = a.logits.rows();
  if (rows == 0) return;
  route_rows<<<blocks_for(rows, kRowsPerBlock), row_threads(), 0, stream_of(ex)>>>(
      a.logits.as<float>(), a.index.as<int32_t>(), a.weight.as<float>(), rows, a.logits.cols(), a.index.cols(),
      a.renormalise);
}

void launch(Cuda, const RouterBwd& a, const Exec& ex) {
  const Backward b{a.logits.as<float>(), a.index.as<int32_t>(), a.weight.as<float>(), a.dweight.as<float>(),
                   a.counts.as<int64_t>(), a.logits.rows(), a.logits.cols(), a.index.cols(), a.balance, a.z,
                   a.renormalise};
  if (b.rows == 0) return;
  by_dtype(a.dlogits, [&](auto* dlogits) {
    backward_rows<<<blocks_for(b.rows, kRowsPerBlock), row_threads(), 0, stream_of(ex)>>>(b, dlogits);
  });
}

void launch(Cuda, const RouterStats& a, const Exec& ex) {
  const int64_t rows = a.logits.rows();
  if (rows == 0) return;
  count_rows<<<blocks_for(rows, kRowsPerBlock), row_threads(), 0, stream_of(ex)>>>(
      a.logits.as<float>(), a.index.as<int32_t>(), a.stats.as<int64_t>(), rows, a.logits.cols(), a.index.cols());
}

}  // namespace llmctl::kn
