// SPDX-License-Identifier: Apache-2.0
// Data movement and digests on CUDA. Not yet run on a GPU.
#include "kernels/basic.h"
#include "kernels/tiles_device.h"

namespace llmctl::kn {
namespace {

template <class X, class Y>
__global__ void convert(const X* x, Y* y, int64_t size) {
  const int64_t at = global_thread();
  if (at < size) put(y + at, widen(x[at]));
}

// Every f16 is a normal f32; subnormals are integers times 2^-24.
__global__ void convert_f16(const uint16_t* x, float* y, int64_t size) {
  const int64_t at = global_thread();
  if (at >= size) return;
  const uint32_t h = x[at] & 0x7fffu, sign = (x[at] & 0x8000u) << 16, bias = 112u << 23;
  const uint32_t shifted = (h << 13) + bias;
  uint32_t b = h < 0x7c00u ? shifted : shifted + bias;
  if (h < 0x400u) b = __float_as_uint(static_cast<float>(h) * 0x1p-24f);
  y[at] = __uint_as_float(b | sign);
}

__global__ void add_whole(const unsigned long long* x, unsigned long long* y, int64_t size) {
  const int64_t at = global_thread();
  if (at < size) y[at] += x[at];
}

__global__ void gather_bytes(const char* x, const int32_t* index, char* y, int64_t size, int64_t row) {
  const int64_t at = global_thread();
  if (at < size) y[at] = x[index[at / row] * row + at % row];
}

template <class T>
__global__ void digest_tile(const T* x, int64_t* out, int64_t rows, int64_t cols, uint64_t key) {
  const DeviceTile t = device_tile(rows, cols);
  Hash128 sum;
  for (int r = static_cast<int>(threadIdx.x) / 32; r < t.rows; r += kWarps) {
    const RowSums s = row_words(x + (t.top + r) * cols + t.left, t.n, static_cast<int>(threadIdx.x) % 32);
    sum = sum + row_hash(warp_sum(s), RowPlace{key, t.tile_row, t.tile_col, r, t.n});
  }
  store_tile(sum, out + 2 * blockIdx.x);
}

template <class T>
void digest_tiles(const TensorDigest& a, const T* x, cudaStream_t stream) {
  const int64_t tiles = tiles_of(a.x.rows(), a.x.cols());
  if (tiles > 0)
    digest_tile<<<static_cast<unsigned>(tiles), kThreads, 0, stream>>>(x, a.tile_digests.as<int64_t>(),
                                                                       a.x.rows(), a.x.cols(), a.key);
  join_tiles<<<1, 32, 0, stream>>>(a.tile_digests.as<int64_t>(), tiles, 1, a.out.as<int64_t>(), true);
}

}  // namespace

void launch(Cuda, const Convert& a, const Exec& ex) {
  const int64_t size = a.x.size();
  if (size == 0) return;
  const unsigned blocks = blocks_for(size, kThreads);
  const cudaStream_t stream = stream_of(ex);
  if (a.x.dtype == a.y.dtype)
    cudaMemcpyAsync(a.y.data, a.x.data, static_cast<size_t>(a.x.bytes()), cudaMemcpyDeviceToDevice, stream);
  else if (a.x.dtype == DType::f16)
    convert_f16<<<blocks, kThreads, 0, stream>>>(a.x.as<uint16_t>(), a.y.as<float>(), size);
  else if (a.x.dtype == DType::f32)
    convert<<<blocks, kThreads, 0, stream>>>(a.x.as<float>(), a.y.as<bf16_t>(), size);
  else
    convert<<<blocks, kThreads, 0, stream>>>(a.x.as<bf16_t>(), a.y.as<float>(), size);
}

void launch(Cuda, const Clear& a, const Exec& ex) {
  cudaMemsetAsync(a.x.data, 0, static_cast<size_t>(a.x.bytes()), stream_of(ex));
}

void launch(Cuda, const AddWhole& a, const Exec& ex) {
  const int64_t size = a.x.size();
  if (size == 0) return;
  add_whole<<<blocks_for(size, kThreads), kThreads, 0, stream_of(ex)>>>(a.x.as<unsigned long long>(),
                                                                        a.y.as<unsigned long long>(), size);
}

void launch(Cuda, const GatherRows& a, const Exec& ex) {
  const int64_t size = a.y.bytes(), row = a.x.cols() * size_of(a.x.dtype);
  if (size == 0) return;
  gather_bytes<<<blocks_for(size, kThreads), kThreads, 0, stream_of(ex)>>>(
      a.x.as<char>(), a.index.as<int32_t>(), a.y.as<char>(), size, row);
}

void launch(Cuda, const TensorDigest& a, const Exec& ex) {
  switch (size_of(a.x.dtype)) {
    case 2:
      digest_tiles(a, a.x.as<uint16_t>(), stream_of(ex));
      break;
    case 4:
      digest_tiles(a, a.x.as<float>(), stream_of(ex));
      break;
    default:
      digest_tiles(a, a.x.as<int64_t>(), stream_of(ex));
  }
}

}  // namespace llmctl::kn
