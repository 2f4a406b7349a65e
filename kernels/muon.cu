// SPDX-License-Identifier: Apache-2.0
// Muon's elementwise passes on CUDA: a block a tile where a digest is fused. Not yet run on a GPU.
#include "kernels/muon.h"
#include "kernels/pointwise.h"
#include "kernels/tiles_device.h"

namespace llmctl::kn {
namespace {

template <class G>
__global__ void momentum_tile(const G* grad, float* m, float* update, math::MomentumFactors f, int64_t rows,
                              int64_t cols, uint64_t key, int64_t* tile_digests) {
  const DeviceTile t = device_tile(rows, cols);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  Hash128 sum;
  for (int r = static_cast<int>(threadIdx.x) / 32; r < t.rows; r += kWarps) {
    const int64_t at = (t.top + r) * cols + t.left;
    for (int i = lane; i < t.n; i += 32) update[at + i] = math::momentum_step(f, grad_value(grad[at + i]), m[at + i]);
    if (!tile_digests) continue;
    const RowPlace place{key, t.tile_row, t.tile_col, r, t.n};
    sum = sum + row_hash(warp_sum(grad_words(grad + at, t.n, lane)), place);
  }
  if (tile_digests) store_tile(sum, tile_digests + 2 * blockIdx.x);
}

__global__ void update_tile(const float* update, float* master, float shrink, float step, int64_t rows,
                            int64_t cols, uint64_t key, int64_t* tile_digests) {
  const DeviceTile t = device_tile(rows, cols);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  Hash128 sum;
  for (int r = static_cast<int>(threadIdx.x) / 32; r < t.rows; r += kWarps) {
    const int64_t at = (t.top + r) * cols + t.left;
    for (int i = lane; i < t.n; i += 32)
      master[at + i] = math::decayed_step(shrink, step, update[at + i], master[at + i]);
    if (!tile_digests) continue;
    __syncwarp();  // a row's words were written by other lanes
    const RowPlace place{key, t.tile_row, t.tile_col, r, t.n};
    sum = sum + row_hash(warp_sum(row_words(master + at, t.n, lane)), place);
  }
  if (tile_digests) store_tile(sum, tile_digests + 2 * blockIdx.x);
}

__global__ void scaled_copy(const float* x, float* y, float scale, int64_t size) {
  const int64_t at = global_thread();
  if (at < size) y[at] = x[at] * scale;
}

// A thread an element of y (cols, rows).
__global__ void scaled_transpose(const float* x, float* y, float scale, int64_t rows, int64_t cols) {
  const int64_t at = global_thread();
  if (at < rows * cols) y[at] = x[at % rows * cols + at / rows] * scale;
}

void join(const View& tile_digests, int64_t tiles, const View& digest, cudaStream_t stream) {
  if (digest)
    join_tiles<<<1, 32, 0, stream>>>(tile_digests.as<int64_t>(), tiles, 1, digest.as<int64_t>(), false);
}

}  // namespace

void launch(Cuda, const MuonMomentum& a, const Exec& ex) {
  const int64_t rows = a.grad.rows(), cols = a.grad.cols(), tiles = tiles_of(rows, cols);
  if (tiles == 0) return;
  const math::MomentumFactors f{a.scale, a.momentum, 1.0f - a.momentum, a.nesterov};
  by_grad(a.grad, [&](auto* grad) {
    momentum_tile<<<static_cast<unsigned>(tiles), kThreads, 0, stream_of(ex)>>>(
        grad, a.m.as<float>(), a.update.as<float>(), f, rows, cols, a.digest_key,
        a.digest ? a.tile_digests.as<int64_t>() : nullptr);
  });
  join(a.tile_digests, tiles, a.digest, stream_of(ex));
}

void launch(Cuda, const MuonUpdate& a, const Exec& ex) {
  const int64_t rows = a.master.rows(), cols = a.master.cols(), tiles = tiles_of(rows, cols);
  if (tiles == 0) return;
  update_tile<<<static_cast<unsigned>(tiles), kThreads, 0, stream_of(ex)>>>(
      a.update.as<float>(), a.master.as<float>(), -(a.lr * a.decay), -a.step, rows, cols, a.digest_key,
      a.digest ? a.tile_digests.as<int64_t>() : nullptr);
  join(a.tile_digests, tiles, a.digest, stream_of(ex));
}

void launch(Cuda, const ScaledCopy& a, const Exec& ex) {
  const int64_t size = a.x.size();
  if (size == 0) return;
  const unsigned blocks = blocks_for(size, kThreads);
  if (a.transpose)
    scaled_transpose<<<blocks, kThreads, 0, stream_of(ex)>>>(a.x.as<float>(), a.y.as<float>(), a.scale,
                                                             a.x.rows(), a.x.cols());
  else
    scaled_copy<<<blocks, kThreads, 0, stream_of(ex)>>>(a.x.as<float>(), a.y.as<float>(), a.scale, size);
}

}  // namespace llmctl::kn
