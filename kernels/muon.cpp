// SPDX-License-Identifier: Apache-2.0
// Muon's elementwise passes on the CPU: one pass over memory each, by tiles where a digest is fused.
#include "kernels/muon.h"

#include "kernels/pointwise.h"
#include "kernels/simd.h"
#include "kernels/tiles.h"

namespace llmctl::kn {

#if KN_ONCE
namespace {
void check_matrix(const char* who, const char* name, const View& v, int64_t rows, int64_t cols) {
  check(v.dtype == DType::f32 && v.rows() == rows && v.cols() == cols, Code::bug, "[", who, "] ", name,
        " is (", v.rows(), ",", v.cols(), ") of ", name_of(v.dtype), ": want f32 (", rows, ",", cols, ")");
}

void check_digest(const char* who, const View& digest, const View& tile_digests, const View& x) {
  if (!digest) return;
  check_vector(who, "digest", digest, DType::i64, 2);
  check_vector(who, "tile_digests", tile_digests, DType::i64, 2 * tiles_of(x.rows(), x.cols()));
}
}  // namespace

void MuonMomentum::check() const {
  llmctl::check(grad.dtype == DType::f32 || grad.dtype == DType::i64, Code::bug, "[", kName, "] grad is ",
                name_of(grad.dtype), ": want i64 or f32");
  check_matrix(kName, "m", m, grad.rows(), grad.cols());
  check_matrix(kName, "update", update, grad.rows(), grad.cols());
  check_digest(kName, digest, tile_digests, grad);
}

void MuonUpdate::check() const {
  check_matrix(kName, "master", master, update.rows(), update.cols());
  check_matrix(kName, "update", update, master.rows(), master.cols());
  check_digest(kName, digest, tile_digests, master);
}

void ScaledCopy::check() const {
  check_matrix(kName, "x", x, x.rows(), x.cols());
  check_matrix(kName, "y", y, transpose ? x.cols() : x.rows(), transpose ? x.rows() : x.cols());
  llmctl::check(!transpose || x.data != y.data, Code::bug, "[", kName, "] a transpose in place is not offered");
}
#endif

namespace {

// body(segment, hasher) over the tiles of x; with `hash` the hashers' sums join into digest.
template <bool hash, class Body>
void tile_pass(const Exec& ex, const View& x, uint64_t key, const View& tile_digests, const View& digest,
               Body&& body) {
  int64_t* tiles = tile_digests.as<int64_t>();
  for_tiles<Nothing>(
      ex, x.rows(), x.cols(),
      [&](Nothing&, int64_t first, int64_t count) {
        if constexpr (hash) std::memset(tiles + 2 * first, 0, static_cast<size_t>(16 * count));
      },
      [&](Nothing&, const Segment& s) {
        RowHasher h = row_hasher();
        body(s, h);
        if constexpr (hash) add_hash(tiles + 2 * s.tile, row_hash(sums_of(h), place_of(key, s)));
      },
      [](Nothing&, int64_t, int64_t) {});
  if constexpr (hash)
    for (int64_t t = 0; t < tiles_of(x.rows(), x.cols()); ++t)
      add_hash(digest.as<int64_t>(),
               {static_cast<uint64_t>(tiles[2 * t]), static_cast<uint64_t>(tiles[2 * t + 1])});
}

template <bool hash, class G>
void momentum_pass(const MuonMomentum& a, const G* grad, const Exec& ex) {
  const math::MomentumFactors f{a.scale, a.momentum, 1.0f - a.momentum, a.nesterov};
  tile_pass<hash>(ex, a.grad, a.digest_key, a.tile_digests, a.digest, [&](const Segment& s, RowHasher& h) {
    float *m = a.m.as<float>() + s.at, *update = a.update.as<float>() + s.at;
    const G* g = grad + s.at;
    for_lanes(s.n, [&](int64_t i, int64_t n) {
      F32 mean = load(m + i, n);
      store(update + i, math::momentum_step(f, load_grad(g + i, n), mean), n);
      store(m + i, mean, n);
      if constexpr (hash) hash_grad(h, g + i, i, n);
    });
  });
}

template <bool hash>
void update_pass(const MuonUpdate& a, const Exec& ex) {
  const float shrink = -(a.lr * a.decay), step = -a.step;
  tile_pass<hash>(ex, a.master, a.digest_key, a.tile_digests, a.digest, [&](const Segment& s, RowHasher& h) {
    float* w = a.master.as<float>() + s.at;
    const float* u = a.update.as<float>() + s.at;
    for_lanes(s.n, [&](int64_t i, int64_t n) {
      const F32 weight = math::decayed_step(shrink, step, load(u + i, n), load(w + i, n));
      store(w + i, weight, n);
      if constexpr (hash) hash_words(h, bits(keep(weight, n, zero())), static_cast<int>(i));
    });
  });
}

// Sixteen columns of x become sixteen rows of y, a square at a time: both sides in runs of a line.
void transpose_columns(const ScaledCopy& a, int64_t left) {
  const int64_t rows = a.x.rows(), cols = a.x.cols(), wide = cols - left < kLanes ? cols - left : kLanes;
  const F32 scale = set1(a.scale);
  const float* x = a.x.as<float>() + left;
  float* y = a.y.as<float>() + left * rows;
  alignas(64) float square[kLanes][kLanes] = {};
  for_lanes(rows, [&](int64_t top, int64_t tall) {
    for (int64_t r = 0; r < tall; ++r) store(square[r], mul(load(x + (top + r) * cols, wide), scale));
    for (int64_t c = 0; c < wide; ++c) {
      alignas(64) float column[kLanes];
      for (int64_t r = 0; r < kLanes; ++r) column[r] = square[r][c];
      store(y + c * rows + top, load(column), tall);
    }
  });
}

}  // namespace

void launch(KN_CPU, const MuonMomentum& a, const Exec& ex) {
  by_grad(a.grad, [&](auto* grad) {
    a.digest ? momentum_pass<true>(a, grad, ex) : momentum_pass<false>(a, grad, ex);
  });
}

void launch(KN_CPU, const MuonUpdate& a, const Exec& ex) {
  a.digest ? update_pass<true>(a, ex) : update_pass<false>(a, ex);
}

void launch(KN_CPU, const ScaledCopy& a, const Exec& ex) {
  if (a.transpose)
    return parallel_for(ex, (a.x.cols() + kLanes - 1) / kLanes,
                        [&](int64_t block) { transpose_columns(a, block * kLanes); });
  constexpr int64_t kBlock = 16384;
  const F32 scale = set1(a.scale);
  const float* x = a.x.as<float>();
  float* y = a.y.as<float>();
  for_blocks(ex, a.x.size(), kBlock, [&](int64_t begin, int64_t end) {
    for_lanes(end - begin, [&](int64_t i, int64_t n) {
      store(y + begin + i, mul(load(x + begin + i, n), scale), n);
    });
  });
}

}  // namespace llmctl::kn
