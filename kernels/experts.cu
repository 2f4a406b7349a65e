// SPDX-License-Identifier: Apache-2.0
// Sorting and combining on CUDA. The sort is one block, a thread an expert: each walks the slots in order.
// Not yet run on a GPU.
#include "kernels/experts.h"
#include "kernels/math.h"
#include "kernels/rows_device.h"

namespace llmctl::kn {
namespace {

__global__ void sort_slots(const int32_t* index, int64_t n, int64_t k, int64_t experts, int32_t* starts, int32_t* token,
                           int32_t* place) {
  for (int64_t e = threadIdx.x; e < experts; e += blockDim.x) {
    int32_t count = 0;
    for (int64_t i = 0; i < n; ++i) count += index[i] == e;
    starts[e + 1] = count;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    starts[0] = 0;
    for (int64_t e = 0; e < experts; ++e) starts[e + 1] += starts[e];
  }
  __syncthreads();
  for (int64_t e = threadIdx.x; e < experts; e += blockDim.x) {
    int32_t row = starts[e];
    for (int64_t i = 0; i < n; ++i) {
      if (index[i] != e) continue;
      token[row] = static_cast<int32_t>(i / k);
      place[i] = row++;
    }
  }
}

template <class X, class Y>
__global__ void combine_rows(const X* x, const int32_t* place, const float* weight, const Y* residual, Y* y, int64_t size,
                             int64_t d, int64_t k) {
  const int64_t at = global_thread();
  if (at >= size) return;
  const int64_t row = at / d, column = at % d;
  float sum = 0;
  for (int64_t j = row * k; j < (row + 1) * k; ++j) {
    const float v = widen(x[place[j] * d + column]);
    sum = weight ? fmaf(weight[j], v, sum) : sum + v;
  }
  put(y + at, residual ? sum + widen(residual[at]) : sum);
}

template <class G, class X, class D>
__global__ void combine_backward(const G* dy, const X* x, const int32_t* place, const float* weight, D* dx, float* dweight,
                                 int64_t slots, int64_t d, int64_t k) {
  const DeviceRow at = device_row(slots);
  const G* g = dy + at.row / k * d;
  const int64_t row = static_cast<int64_t>(place[at.row]) * d;
  float dot = 0;
  for (int64_t i = at.lane; i < d; i += kRowLanes) {
    dot = fmaf(widen(g[i]), widen(x[row + i]), dot);
    if (at.live) put(dx + row + i, weight[at.row] * widen(g[i]));
  }
  dot = row_sum(dot);
  if (at.live && at.lane == 0) dweight[at.row] = dot;
}

__global__ void add_slot(const int32_t* place, const float* weight, const float* gate, int32_t* place_all,
                         float* weight_all, int64_t tokens, int64_t k) {
  const int64_t i = global_thread();
  if (i >= tokens * (k + 1)) return;
  const int64_t t = i / (k + 1), slot = i % (k + 1);
  place_all[i] = slot < k ? place[t * k + slot] : static_cast<int32_t>(tokens * k + t);
  weight_all[i] = slot < k ? weight[t * k + slot] : math::sigmoid(gate[t]);
}

template <class D>
__global__ void add_slot_backward(const float* weight_all, const float* dweight_all, float* dweight, D* dgate, int64_t tokens,
                                  int64_t k) {
  const int64_t i = global_thread();
  if (i >= tokens * (k + 1)) return;
  const int64_t t = i / (k + 1), slot = i % (k + 1);
  if (slot < k)
    dweight[t * k + slot] = dweight_all[i];
  else
    put(dgate + t, dweight_all[i] * (weight_all[i] * (1.0f - weight_all[i])));
}

}  // namespace

void launch(Cuda, const AddSharedSlot& a, const Exec& ex) {
  const int64_t all = a.place_all.size();
  if (all == 0) return;
  add_slot<<<blocks_for(all, kThreads), kThreads, 0, stream_of(ex)>>>(
      a.place.as<int32_t>(), a.weight.as<float>(), a.gate.as<float>(), a.place_all.as<int32_t>(),
      a.weight_all.as<float>(), a.place.rows(), a.place.cols());
}

void launch(Cuda, const AddSharedSlotBwd& a, const Exec& ex) {
  const int64_t all = a.weight_all.size();
  if (all == 0) return;
  by_dtype(a.dgate, [&](auto* dgate) {
    add_slot_backward<<<blocks_for(all, kThreads), kThreads, 0, stream_of(ex)>>>(
        a.weight_all.as<float>(), a.dweight_all.as<float>(), a.dweight.as<float>(), dgate, a.dweight.rows(),
        a.dweight.cols());
  });
}

void launch(Cuda, const SortByExpert& a, const Exec& ex) {
  sort_slots<<<1, kThreads, 0, stream_of(ex)>>>(a.index.as<int32_t>(), a.index.size(), a.index.cols(), a.starts.size() - 1,
                                                a.starts.as<int32_t>(), a.token.as<int32_t>(), a.place.as<int32_t>());
}

void launch(Cuda, const CombineExperts& a, const Exec& ex) {
  const int64_t size = a.y.size();
  if (size == 0) return;
  by_dtype(a.x, [&](auto* x) {
    by_dtype(a.y, [&](auto* y) {
      combine_rows<<<blocks_for(size, kThreads), kThreads, 0, stream_of(ex)>>>(
          x, a.place.as<int32_t>(), a.weight.as<float>(), static_cast<decltype(y)>(a.residual.data), y, size, a.y.cols(),
          a.place.cols());
    });
  });
}

void launch(Cuda, const CombineExpertsBwd& a, const Exec& ex) {
  const int64_t slots = a.place.size();
  if (slots == 0) return;
  by_dtype(a.dy, [&](auto* dy) {
    by_dtype(a.x, [&](auto* x) {
      by_dtype(a.dx, [&](auto* dx) {
        combine_backward<<<blocks_for(slots, kRowsPerBlock), row_threads(), 0, stream_of(ex)>>>(
            dy, x, a.place.as<int32_t>(), a.weight.as<float>(), dx, a.dweight.as<float>(), slots, a.dy.cols(),
            a.place.cols());
      });
    });
  });
}

}  // namespace llmctl::kn
