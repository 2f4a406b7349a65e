// SPDX-License-Identifier: Apache-2.0
// AttnFwd on tensor cores, after FlashAttention-2 (Dao 2023). A block takes a tile of rows of one sequence
// and KV head, a row being a query of one of the group's heads, so that keys and values are read once for
// the group. Its order: scores by mma.sync over blocks of 16 of D; within a segment of 256 keys, blocks of 64
// with a running maximum; segments merge in order (NUMERICS rule 10). Everything is decided row by row, and
// a block whose keys are masked for a row leaves that row as it is, bit for bit: a row does not depend on its
// neighbours, nor on whether it was prefilled or decoded. Pages are B's fragments as they lie. Not yet run
// on a GPU.
#include "kernels/attention_mma.h"

#include "kernels/attention_tiles_device.h"

namespace llmctl::kn {
namespace {

constexpr int kKeys = 64, kKeyTiles = kKeys / 8;  // of a block: two pages
constexpr int kKeyRow = kPageTokens + 8;          // words of a pair along D in shared memory: banks apart

struct Args {
  const bf16_t* qkv;
  const uint32_t *k, *v;
  const Sequence* sequences;
  const int32_t* page_table;
  bf16_t* out;
  float* lse;
  int64_t sequence_count, heads, kv_heads, page_words;
  float scale;
};

template <int kDim_, int kWarps_>
struct Shape {
  static constexpr int kDim = kDim_, kWarps = kWarps_, kThreads = 32 * kWarps, kRows = 16 * kWarps;
  static constexpr int kValueRow = kDim + 8;                        // words of a pair of keys: banks apart
  static constexpr int kKeyPage = kDim / 2 * kKeyRow, kValuePage = kPageTokens / 2 * kValueRow;
  static constexpr int kStage = 2 * (kKeyPage + kValuePage), kBytes = 2 * kStage * 4;
};

// Keys and values of one block to shared memory; pages past the last are zero.
template <class S>
__device__ void fetch(const Args& a, const Sequence& seq, int64_t kv_head, int64_t first, uint32_t* stage) {
  for (int page = 0; page < 2; ++page) {
    const int64_t key = first + page * kPageTokens;
    const bool there = key < seq.keys;
    const int64_t at = there ? (a.page_table[seq.first_page + key / kPageTokens] * a.kv_heads + kv_head) * a.page_words : 0;
    uint32_t *keys = stage + page * S::kKeyPage, *values = stage + 2 * S::kKeyPage + page * S::kValuePage;
    for (int i = static_cast<int>(threadIdx.x); i < S::kDim / 2 * 8; i += S::kThreads)
      copy_async16(keys + i / 8 * kKeyRow + i % 8 * 4, a.k + at + i * 4, there);
    for (int i = static_cast<int>(threadIdx.x); i < S::kDim * 4; i += S::kThreads) {
      const int pair = i / (S::kDim / 4), piece = i % (S::kDim / 4);
      copy_async16(values + pair * S::kValueRow + piece * 4, a.v + at + i * 4, there);
    }
  }
}

// What lies in the slots of values behind the last key may be anything, NaN too: zero, before it meets p = 0.
template <class S>
__device__ void clear_stale(int64_t first, int64_t keys, uint32_t* stage) {
  for (int i = static_cast<int>(threadIdx.x); i < kKeys / 2 * S::kDim; i += S::kThreads) {
    const int pair = i / S::kDim, d = i % S::kDim;
    const int64_t key = first + 2 * pair;
    uint32_t* word = stage + 2 * S::kKeyPage + pair / 16 * S::kValuePage + pair % 16 * S::kValueRow + d;
    if (key >= keys)
      *word = 0;
    else if (key + 1 >= keys)
      *word &= 0xffffu;
  }
}

__device__ inline float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}
__device__ inline float quad_sum(float x) {
  x += __shfl_xor_sync(0xffffffffu, x, 1);
  return x + __shfl_xor_sync(0xffffffffu, x, 2);
}
// A maximum as exp's subtrahend: rows that have seen no key have -inf, and exp(-inf - 0) is 0.
__device__ inline float base_of(float m) { return m == -math::kInfinity ? 0.0f : m; }

// m, l and O of the two rows of a lane.
template <int kDim>
struct State {
  float m[2], l[2], o[kDim / 2];  // o: kDim / 8 tiles of 4
  __device__ void reset() {
    for (int h = 0; h < 2; ++h) m[h] = -math::kInfinity, l[h] = 0.0f;
#pragma unroll
    for (int i = 0; i < kDim / 2; ++i) o[i] = 0.0f;
  }
};

template <class S>
struct Rows {
  MmaA q[S::kDim / 16];
  int64_t limit[2];  // keys that each of the lane's rows sees
};

// One block of keys into the segment's state.
template <class S>
__device__ void advance(const Rows<S>& rows, const uint32_t* stage, int64_t first, float scale, int lane,
                        State<S::kDim>& state) {
  float s[kKeyTiles * 4];
#pragma unroll
  for (int j = 0; j < kKeyTiles; ++j) {
    const uint32_t* keys = stage + j / 4 * S::kKeyPage + j % 4 * 8 + lane / 4 + lane % 4 * kKeyRow;
    for (int e = 0; e < 4; ++e) s[j * 4 + e] = 0.0f;
#pragma unroll
    for (int d = 0; d < S::kDim / 16; ++d) {
      const MmaB b{{keys[d * 8 * kKeyRow], keys[(d * 8 + 4) * kKeyRow]}};
      mma_bf16(s + j * 4, rows.q[d], b);
    }
  }
  float top[2] = {-math::kInfinity, -math::kInfinity}, keep[2];
#pragma unroll
  for (int i = 0; i < kKeyTiles * 4; ++i) {
    const int64_t key = first + i / 4 * 8 + lane % 4 * 2 + i % 2;
    const int h = i % 4 / 2;
    s[i] = key < rows.limit[h] ? s[i] * scale : -math::kInfinity;
    top[h] = fmaxf(top[h], s[i]);
  }
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    top[h] = fmaxf(state.m[h], quad_max(top[h]));
    keep[h] = math::exp(state.m[h] - base_of(top[h]));
    state.m[h] = top[h];
  }
  float sum[2] = {0.0f, 0.0f};
#pragma unroll
  for (int i = 0; i < kKeyTiles * 4; ++i) {
    const int h = i % 4 / 2;
    s[i] = math::exp(s[i] - base_of(top[h]));
    sum[h] += s[i];
  }
#pragma unroll
  for (int h = 0; h < 2; ++h) state.l[h] = fmaf(state.l[h], keep[h], sum[h]);
#pragma unroll
  for (int i = 0; i < S::kDim / 2; ++i) state.o[i] *= keep[i % 4 / 2];
#pragma unroll
  for (int block = 0; block < kKeys / 16; ++block) {
    const float* p = s + block * 8;
    const MmaA a{{packed(p[0], p[1]), packed(p[2], p[3]), packed(p[4], p[5]), packed(p[6], p[7])}};
    const uint32_t* values =
        stage + 2 * S::kKeyPage + block / 2 * S::kValuePage + (block % 2 * 8 + lane % 4) * S::kValueRow + lane / 4;
#pragma unroll
    for (int t = 0; t < S::kDim / 8; ++t) {
      const MmaB b{{values[t * 8], values[4 * S::kValueRow + t * 8]}};
      mma_bf16(state.o + t * 4, a, b);
    }
  }
}

// The segment's state joins the total.
template <int kDim>
__device__ void merge(State<kDim>& total, State<kDim>& segment) {
  float keep[2], take[2];
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const float top = fmaxf(total.m[h], segment.m[h]), base = base_of(top);
    keep[h] = math::exp(total.m[h] - base), take[h] = math::exp(segment.m[h] - base);
    total.l[h] = fmaf(total.l[h], keep[h], quad_sum(segment.l[h]) * take[h]);
    total.m[h] = top;
  }
#pragma unroll
  for (int i = 0; i < kDim / 2; ++i) total.o[i] = fmaf(total.o[i], keep[i % 4 / 2], segment.o[i] * take[i % 4 / 2]);
  segment.reset();
}

template <class S>
__global__ void __launch_bounds__(S::kThreads) mma_attention_kernel(const __grid_constant__ Args a) {
  KN_DYNAMIC_SHARED(uint32_t, shared);
  __shared__ Tile tile;
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int64_t kv_head = blockIdx.y, group = a.heads / a.kv_heads;
  find_tile(a.sequences, a.sequence_count, group, S::kRows, &tile);
  if (tile.sequence < 0) return;
  const Sequence seq = a.sequences[tile.sequence];
  const int64_t count = seq.queries * group, first_row = static_cast<int64_t>(tile.index) * S::kRows;
  const int64_t last = first_row + S::kRows < count ? first_row + S::kRows : count;
  const int64_t keys = seq.keys - seq.queries + (last - 1) / group + 1;  // that any row of the tile sees

  Rows<S> rows;
  const bf16_t* q[2];
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int64_t r = first_row + warp * 16 + lane / 4 + h * 8, safe = r < count ? r : count - 1;
    rows.limit[h] = r < count ? seq.keys - seq.queries + r / group + 1 : 0;
    q[h] = a.qkv + ((seq.first_row + safe / group) * (a.heads + 2 * a.kv_heads) + kv_head * group + safe % group) * S::kDim;
  }
#pragma unroll
  for (int d = 0; d < S::kDim / 16; ++d)
    for (int i = 0; i < 4; ++i)
      rows.q[d].r[i] = *reinterpret_cast<const uint32_t*>(q[i % 2] + d * 16 + lane % 4 * 2 + i / 2 * 8);

  State<S::kDim> total, segment;
  total.reset(), segment.reset();
  fetch<S>(a, seq, kv_head, 0, shared);
  copy_commit();
  for (int64_t first = 0, turn = 0; first < keys; first += kKeys, ++turn) {
    uint32_t* stage = shared + turn % 2 * S::kStage;
    if (first + kKeys < keys) fetch<S>(a, seq, kv_head, first + kKeys, shared + (turn + 1) % 2 * S::kStage);
    copy_commit();
    copy_wait<1>();
    __syncthreads();  // everybody's copies of this block are there
    if (first + kKeys > seq.keys) {
      clear_stale<S>(first, seq.keys, stage);
      __syncthreads();
    }
    advance<S>(rows, stage, first, a.scale, lane, segment);
    if ((first + kKeys) % kSegmentKeys == 0 || first + kKeys >= keys) merge(total, segment);
    __syncthreads();  // the block has been read: the next but one may be written over it
  }
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int64_t r = first_row + warp * 16 + lane / 4 + h * 8;
    if (r >= count) continue;
    const int64_t row = (seq.first_row + r / group) * a.heads + kv_head * group + r % group;
#pragma unroll
    for (int t = 0; t < S::kDim / 8; ++t) {
      const float low = (total.o[t * 4 + h * 2] + 0.0f) / total.l[h], high = (total.o[t * 4 + h * 2 + 1] + 0.0f) / total.l[h];
      *reinterpret_cast<uint32_t*>(a.out + row * S::kDim + t * 8 + lane % 4 * 2) = packed(low, high);
    }
    if (a.lse && lane % 4 == 0) a.lse[row] = total.m[h] + math::log(total.l[h]);
  }
}

template <class S>
void start(const Args& a, int64_t tokens, cudaStream_t stream) {
  cudaFuncSetAttribute(mma_attention_kernel<S>, cudaFuncAttributeMaxDynamicSharedMemorySize, S::kBytes);
  const dim3 grid(most_tiles(tokens * (a.heads / a.kv_heads), S::kRows, a.sequence_count),
                  static_cast<unsigned>(a.kv_heads));
  mma_attention_kernel<S><<<grid, S::kThreads, S::kBytes, stream>>>(a);
}

template <int kDim>
void start(const Args& a, int64_t tokens, cudaStream_t stream) {
  const bool decoding = tokens <= a.sequence_count;  // a query each: the group's heads are one small tile
  decoding ? start<Shape<kDim, 1>>(a, tokens, stream) : start<Shape<kDim, 4>>(a, tokens, stream);
}

}  // namespace

bool mma_takes(const AttnFwd& a) {
  const int64_t d = a.qkv.dim[2];
  const auto aligned = [](const View& v) { return reinterpret_cast<uintptr_t>(v.data) % 16 == 0; };
  return a.qkv.dtype == DType::bf16 && a.order == Bf16Order::pair && (d == 32 || d == 64 || d == 96 || d == 128) &&
         aligned(a.qkv) && aligned(a.kv.k) && aligned(a.kv.v) && aligned(a.out);
}

void mma_attention(const AttnFwd& f, const Exec& ex) {
  const int64_t d = f.qkv.dim[2];
  Args a{f.qkv.as<bf16_t>(), static_cast<const uint32_t*>(f.kv.k.data), static_cast<const uint32_t*>(f.kv.v.data),
         f.sequences.as<Sequence>(), f.page_table.as<int32_t>(), f.out.as<bf16_t>(), f.lse.as<float>(),
         f.sequences.dim[0], f.heads, f.kv_heads, kv_page_elements(DType::bf16, d) / 2, f.scale};
  const auto stream = static_cast<cudaStream_t>(ex.stream);
  const int64_t tokens = f.qkv.dim[0];
  d == 32   ? start<32>(a, tokens, stream)
  : d == 64 ? start<64>(a, tokens, stream)
  : d == 96 ? start<96>(a, tokens, stream)
            : start<128>(a, tokens, stream);
}

}  // namespace llmctl::kn
