// SPDX-License-Identifier: Apache-2.0
// Gradient norm and AdamW on CUDA: 16 threads a tile, a block a tile. Not yet run on a GPU.
#include "kernels/optimizer.h"
#include "kernels/pointwise.h"
#include "kernels/tiles_device.h"

namespace llmctl::kn {
namespace {

template <class G>
__global__ void tile_norms(const G* grad, float scale, double* out, int64_t rows, int64_t cols,
                           int64_t tiles) {
  const DeviceRow r = device_row(tiles);  // a tile in the place of a row
  const int64_t across = (cols + kTileCols - 1) / kTileCols;
  const int64_t top = r.row / across * kTileRows, left = r.row % across * kTileCols;
  const int64_t bottom = top + kTileRows < rows ? top + kTileRows : rows;
  const int64_t right = left + kTileCols < cols ? left + kTileCols : cols;
  double sum = 0.0;
  for (int64_t y = top; y < bottom; ++y)
    for (int64_t x = left + r.lane; x < right; x += kRowLanes) {
      const double g = static_cast<double>(grad_value(grad[y * cols + x]) * scale);
      sum = math::fma64(g, g, sum);
    }
  for (int w = 8; w > 0; w /= 2) sum += __shfl_down_sync(0xffffffffu, sum, w, 16);
  if (r.live && r.lane == 0) out[r.row] = sum;
}

template <class G>
struct AdamWPointers {
  const G* grad;
  float *master, *m, *v;
  int64_t* tile_digests;  // or none
};

template <class G>
__global__ void adamw_tile(AdamWPointers<G> a, math::AdamWFactors f, int64_t rows, int64_t cols,
                           uint64_t key, int64_t first_tile_row) {
  const DeviceTile t = device_tile(rows, cols);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  Hash128 weights, gradients;
  for (int r = static_cast<int>(threadIdx.x) / 32; r < t.rows; r += kWarps) {
    const int64_t at = (t.top + r) * cols + t.left;
    for (int i = lane; i < t.n; i += 32) {
      float w = a.master[at + i], m = a.m[at + i], v = a.v[at + i];
      math::adamw_step(f, grad_value(a.grad[at + i]), w, m, v);
      a.master[at + i] = w, a.m[at + i] = m, a.v[at + i] = v;
    }
    if (!a.tile_digests) continue;
    __syncwarp();  // a row's words were written by other lanes
    const RowPlace place{key, first_tile_row + t.tile_row, t.tile_col, r, t.n};
    weights = weights + row_hash(warp_sum(row_words(a.master + at, t.n, lane)), place);
    gradients = gradients + row_hash(warp_sum(grad_words(a.grad + at, t.n, lane)), place);
  }
  if (!a.tile_digests) return;
  store_tile(weights, a.tile_digests + 4 * blockIdx.x);
  store_tile(gradients, a.tile_digests + 4 * blockIdx.x + 2);
}

}  // namespace

void launch(Cuda, const GradNorm& a, const Exec& ex) {
  const int64_t rows = a.grad.rows(), cols = a.grad.cols(), tiles = tiles_of(rows, cols);
  if (tiles == 0) return;
  by_grad(a.grad, [&](auto* grad) {
    tile_norms<<<blocks_for(tiles, kRowsPerBlock), row_threads(), 0, stream_of(ex)>>>(
        grad, a.scale, a.out.as<double>(), rows, cols, tiles);
  });
}

void launch(Cuda, const AdamW& a, const Exec& ex) {
  const int64_t rows = a.grad.rows(), cols = a.grad.cols(), tiles = tiles_of(rows, cols);
  if (tiles == 0) return;
  const math::AdamWFactors f = math::adamw_factors(a);
  by_grad(a.grad, [&](auto* grad) {
    using G = std::remove_pointer_t<decltype(grad)>;
    const AdamWPointers<G> p{grad, a.master.as<float>(), a.m.as<float>(), a.v.as<float>(),
                             a.digest ? a.tile_digests.as<int64_t>() : nullptr};
    adamw_tile<<<static_cast<unsigned>(tiles), kThreads, 0, stream_of(ex)>>>(p, f, rows, cols, a.digest_key,
                                                                                       a.first_row / kTileRows);
  });
  if (a.digest)
    join_tiles<<<1, 32, 0, stream_of(ex)>>>(a.tile_digests.as<int64_t>(), tiles, 2, a.digest.as<int64_t>(),
                                            false);
}

}  // namespace llmctl::kn
