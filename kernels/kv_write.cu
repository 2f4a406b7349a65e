// SPDX-License-Identifier: Apache-2.0
// KvWrite on CUDA: a block is one row and one KV head, a thread one element. Not yet run on a GPU.
#include "kernels/attention_device.h"

namespace llmctl::kn {
namespace {

template <class T>
__global__ void kv_write_kernel(const T* qkv, const int64_t* slots, T* k, T* v, int64_t heads,
                                int64_t kv_heads, int64_t dim, int64_t page_elements) {
  const int64_t row = blockIdx.x, kv_head = blockIdx.y, slot = slots[row];
  if (slot < 0) return;
  const T* from = qkv + (row * (heads + 2 * kv_heads) + heads + kv_head) * dim;
  const int64_t page = (slot / kPageTokens * kv_heads + kv_head) * page_elements, o = slot % kPageTokens;
  const bool pairs = sizeof(T) == 2;
  for (int64_t i = threadIdx.x; i < dim; i += kBlock) {
    k[page + (pairs ? (i / 2 * kPageTokens + o) * 2 + i % 2 : i * kPageTokens + o)] = from[i];
    v[page + (pairs ? (o / 2 * dim + i) * 2 + o % 2 : o * dim + i)] = from[kv_heads * dim + i];
  }
  // The odd tail's partner is read by the CPU's pairs: it must be zero.
  if (pairs && dim % 2 != 0 && threadIdx.x == 0) k[page + (dim / 2 * kPageTokens + o) * 2 + 1] = T{0};
}

template <class T>
void write_pages(const KvWrite& w, cudaStream_t stream) {
  const int64_t dim = w.qkv.dim[2];
  const dim3 grid(static_cast<unsigned>(w.qkv.dim[0]), static_cast<unsigned>(w.kv_heads));
  kv_write_kernel<T><<<grid, kBlock, 0, stream>>>(w.qkv.as<T>(), w.slots.as<int64_t>(), w.kv.k.as<T>(),
                                                  w.kv.v.as<T>(), w.heads, w.kv_heads, dim,
                                                  kv_page_elements(w.qkv.dtype, dim));
}

}  // namespace

void launch(Cuda, const KvWrite& w, const Exec& ex) {
  if (w.qkv.dim[0] == 0) return;
  const auto stream = static_cast<cudaStream_t>(ex.stream);
  w.qkv.dtype == DType::f32 ? write_pages<float>(w, stream) : write_pages<bf16_t>(w, stream);
}

}  // namespace llmctl::kn
