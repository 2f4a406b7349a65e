// SPDX-License-Identifier: Apache-2.0
// AttnFwd on CUDA, plainly: a block is one row of one head, a thread one key of the segment for the
// scores and one element of the head for O, in the very order of attention.h. Not yet run on a GPU.
#include "kernels/attention_device.h"
#include "kernels/attention_mma.h"

namespace llmctl::kn {
namespace {

struct ForwardArgs {
  const void *qkv, *k, *v;
  const Sequence* sequences;
  const int32_t* page_table;
  void* out;
  float* lse;
  int64_t sequence_count, heads, kv_heads, dim, page_elements;
  float scale;
};

// The largest x of the block; `scratch` holds one float per warp.
__device__ float block_max(float x, float* scratch) {
  for (int w = 16; w > 0; w /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, w));
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = x;
  __syncthreads();
  for (int w = 0; w < kBlock / 32; ++w) x = fmaxf(x, scratch[w]);
  __syncthreads();
  return x;
}

// K[i] and V[i] of one slot of a page.
template <class T>
__device__ float key_at(const T* page, int64_t slot, int64_t i) {
  return widen(sizeof(T) == 2 ? page[(i / 2 * kPageTokens + slot) * 2 + i % 2]
                              : page[i * kPageTokens + slot]);
}
template <class T>
__device__ float value_at(const T* page, int64_t slot, int64_t i, int64_t dim) {
  return widen(sizeof(T) == 2 ? page[(slot / 2 * dim + i) * 2 + slot % 2] : page[slot * dim + i]);
}

template <class T>
__global__ void attn_fwd_kernel(ForwardArgs a) {
  __shared__ float q[kBlock], p[kBlock], scratch[kBlock / 32], l_segment;
  __shared__ int found;
  const int64_t row = blockIdx.x, head = blockIdx.y, i = threadIdx.x, kv_head = head / (a.heads / a.kv_heads);
  find_sequence(a.sequences, a.sequence_count, row, &found);
  if (found < 0) return;
  const Sequence seq = a.sequences[found];
  const int64_t limit = seq.keys - seq.queries + (row - seq.first_row) + 1;
  if (i < a.dim)
    q[i] = widen(static_cast<const T*>(a.qkv)[(row * (a.heads + 2 * a.kv_heads) + head) * a.dim + i]);
  float m = 0.0f, l = 0.0f, o = 0.0f;
  for (int64_t key = 0; key < limit; key += kSegmentKeys) {
    const int64_t n = limit - key < kSegmentKeys ? limit - key : kSegmentKeys;
    const int32_t* pages = a.page_table + seq.first_page + key / kPageTokens;
    auto page = [&](const void* base, int64_t j) {
      return static_cast<const T*>(base) + (pages[j / kPageTokens] * a.kv_heads + kv_head) * a.page_elements;
    };
    __syncthreads();  // q is there; the last segment's p has been read
    float s = -3.4028234e38f;
    if (i < n) {
      const T* k = page(a.k, i);
      s = chain<T>(
              0.0f, a.dim, [&](int64_t e) { return q[e]; },
              [&](int64_t e) { return key_at(k, i % kPageTokens, e); }) *
          a.scale;
    }
    const float m_segment = block_max(s, scratch);
    p[i] = i < n ? math::exp(s - m_segment) : 0.0f;
    __syncthreads();
    if (i < 32) {  // 16 lanes, twice
      float sum = 0.0f;
      for (int64_t j = i % 16; j < n; j += 16) sum += p[j];
      sum = sum16_lanes(sum);
      if (i == 0) l_segment = sum;
    }
    float segment = 0.0f;
    if (i < a.dim)
      segment = chain<T>(
          0.0f, n, [&](int64_t j) { return rounded<T>(p[j]); },
          [&](int64_t j) { return value_at(page(a.v, j), j % kPageTokens, i, a.dim); });
    segment += 0.0f;  // -0 counts as +0
    __syncthreads();
    const float top = key == 0 || m_segment > m ? m_segment : m;
    const float keep = math::exp(m - top), take = math::exp(m_segment - top);
    o = key == 0 ? segment : fmaf(o, keep, segment * take);
    l = key == 0 ? l_segment : fmaf(l, keep, l_segment * take);
    m = top;
  }
  if (i < a.dim) put(static_cast<T*>(a.out) + (row * a.heads + head) * a.dim + i, o / l);
  if (i == 0 && a.lse) a.lse[row * a.heads + head] = m + math::log(l);
}

}  // namespace

void launch(Cuda, const AttnFwd& a, const Exec& ex) {
  check_order(a.order, a.qkv.dtype, "attn_fwd");
  ForwardArgs f{};
  f.qkv = a.qkv.data, f.k = a.kv.k.data, f.v = a.kv.v.data, f.out = a.out.data, f.lse = a.lse.as<float>();
  f.sequences = a.sequences.as<Sequence>(), f.page_table = a.page_table.as<int32_t>();
  f.sequence_count = a.sequences.dim[0], f.heads = a.heads, f.kv_heads = a.kv_heads, f.dim = a.qkv.dim[2];
  f.page_elements = kv_page_elements(a.qkv.dtype, f.dim), f.scale = a.scale;
  if (ex.tensor_cores && mma_takes(a)) return mma_attention(a, ex);
  const dim3 grid(static_cast<unsigned>(a.qkv.dim[0]), static_cast<unsigned>(a.heads));
  if (grid.x == 0) return;
  const auto stream = static_cast<cudaStream_t>(ex.stream);
  if (a.qkv.dtype == DType::f32)
    attn_fwd_kernel<float><<<grid, kBlock, 0, stream>>>(f);
  else
    attn_fwd_kernel<bf16_t><<<grid, kBlock, 0, stream>>>(f);
}

}  // namespace llmctl::kn
