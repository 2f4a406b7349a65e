// SPDX-License-Identifier: Apache-2.0
// Gradient norm and AdamW on the CPU: one pass over memory each, by tiles.
#include "kernels/optimizer.h"

#include "kernels/pointwise.h"
#include "kernels/simd.h"
#include "kernels/tiles.h"

namespace llmctl::kn {

#if KN_ONCE
namespace {
void check_state(const char* name, const View& v, const View& grad) {
  check(v.dtype == DType::f32 && v.size() == grad.size() && v.cols() == grad.cols(), Code::bug, "[adamw] ",
        name, " is (", v.rows(), ",", v.cols(), ") of ", name_of(v.dtype), ": want f32 (", grad.rows(), ",",
        grad.cols(), ")");
}
}  // namespace

void GradNorm::check() const {
  llmctl::check(grad.dtype == DType::f32 || grad.dtype == DType::i64, Code::bug, "[", kName, "] grad is ",
                name_of(grad.dtype), ": want i64 or f32");
  const int64_t tiles = tiles_of(grad.rows(), grad.cols());
  llmctl::check(size_of(out.dtype) == 8 && out.size() == tiles, Code::bug, "[", kName, "] out has ",
                out.size(), " sums of ", name_of(out.dtype), ": want ", tiles, " of 8 bytes");
}

void AdamW::check() const {
  llmctl::check(grad.dtype == DType::f32 || grad.dtype == DType::i64, Code::bug, "[", kName, "] grad is ",
                name_of(grad.dtype), ": want i64 or f32");
  check_state("master", master, grad);
  check_state("m", m, grad);
  check_state("v", v, grad);
  llmctl::check(first_row >= 0 && first_row % kTileRows == 0, Code::bug, "[", kName, "] first_row is ", first_row,
                ": want a multiple of ", kTileRows);
  llmctl::check(bias1 > 0 && bias2 > 0, Code::bug, "[", kName, "] bias corrections are ", bias1, " and ",
                bias2, ": want above 0");
  if (!digest) return;
  check_vector(kName, "digest", digest, DType::i64, 4);
  check_vector(kName, "tile_digests", tile_digests, DType::i64, 4 * tiles_of(grad.rows(), grad.cols()));
}
#endif

namespace {

// ------------------------------------------------------------------ norm
// Sixteen f64 lanes per tile: lane j of the sum takes elements j, j+16, ... of each row in turn.
#if KN_ISA >= 2
struct F64 {
  __m512d a, b;
};
KN_INLINE void add_squares(F64& s, F32 g) {
  const __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(g.v));
  const __m512d high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(g.v, 1));
  s.a = _mm512_fmadd_pd(low, low, s.a);
  s.b = _mm512_fmadd_pd(high, high, s.b);
}
KN_INLINE void lanes_of(const F64& s, double* t) {
  _mm512_storeu_pd(t, s.a);
  _mm512_storeu_pd(t + 8, s.b);
}
KN_INLINE F64 zero64() {
  return {_mm512_setzero_pd(), _mm512_setzero_pd()};
}
#elif KN_ISA == 1
struct F64 {
  __m256d v[4];
};
KN_INLINE void add_squares(F64& s, F32 g) {
  const __m128 part[4] = {_mm256_castps256_ps128(g.a), _mm256_extractf128_ps(g.a, 1),
                          _mm256_castps256_ps128(g.b), _mm256_extractf128_ps(g.b, 1)};
  for (int i = 0; i < 4; ++i) {
    const __m256d x = _mm256_cvtps_pd(part[i]);
    s.v[i] = _mm256_fmadd_pd(x, x, s.v[i]);
  }
}
KN_INLINE void lanes_of(const F64& s, double* t) {
  for (int i = 0; i < 4; ++i) _mm256_storeu_pd(t + 4 * i, s.v[i]);
}
KN_INLINE F64 zero64() {
  return {{_mm256_setzero_pd(), _mm256_setzero_pd(), _mm256_setzero_pd(), _mm256_setzero_pd()}};
}
#elif KN_ISA == -1
struct F64 {
  float64x2_t v[8];
};
KN_INLINE void add_squares(F64& s, F32 g) {
  const float32x4_t part[4] = {g.a, g.b, g.c, g.d};
  for (int i = 0; i < 4; ++i) {
    const float64x2_t low = vcvt_f64_f32(vget_low_f32(part[i])), high = vcvt_high_f64_f32(part[i]);
    s.v[2 * i] = vfmaq_f64(s.v[2 * i], low, low);
    s.v[2 * i + 1] = vfmaq_f64(s.v[2 * i + 1], high, high);
  }
}
KN_INLINE void lanes_of(const F64& s, double* t) {
  for (int i = 0; i < 8; ++i) vst1q_f64(t + 2 * i, s.v[i]);
}
KN_INLINE F64 zero64() {
  return {};
}
#else
struct F64 {
  double v[16];
};
KN_INLINE void add_squares(F64& s, F32 g) {
  for (int i = 0; i < kLanes; ++i) {
    const double x = static_cast<double>(g.v[i]);
    s.v[i] = math::fma64(x, x, s.v[i]);
  }
}
KN_INLINE void lanes_of(const F64& s, double* t) {
  std::memcpy(t, s.v, sizeof s.v);
}
KN_INLINE F64 zero64() {
  return {};
}
#endif

// Lanes i and i+8, then +4, +2, +1.
double sum_lanes(const F64& s) {
  double t[kLanes];
  lanes_of(s, t);
  for (int w = 8; w > 0; w /= 2)
    for (int i = 0; i < w; ++i) t[i] += t[i + w];
  return t[0];
}

struct TileSums {
  F64 sum[kTilesPerTask];
};

// ------------------------------------------------------------------ AdamW
template <bool hash, class G>
void adamw_segment(const AdamW& a, const math::AdamWFactors& f, const G* grad, const Segment& s) {
  float *w = a.master.as<float>() + s.at, *m = a.m.as<float>() + s.at, *v = a.v.as<float>() + s.at;
  const G* g = grad + s.at;
  RowHasher weights = row_hasher(), gradients = row_hasher();
  for_lanes(s.n, [&](int64_t i, int64_t n) {
    F32 weight = load(w + i, n), mean = load(m + i, n), square = load(v + i, n);
    math::adamw_step(f, load_grad(g + i, n), weight, mean, square);
    store(w + i, weight, n);
    store(m + i, mean, n);
    store(v + i, square, n);
    if constexpr (hash) {
      hash_words(weights, bits(keep(weight, n, zero())), static_cast<int>(i));
      hash_grad(gradients, g + i, i, n);
    }
  });
  if constexpr (hash) {
    int64_t* tile = a.tile_digests.as<int64_t>() + 4 * s.tile;
    RowPlace place = place_of(a.digest_key, s);
    place.tile_row += a.first_row / kTileRows;
    add_hash(tile, row_hash(sums_of(weights), place));
    add_hash(tile + 2, row_hash(sums_of(gradients), place));
  }
}

template <bool hash, class G>
void adamw_pass(const AdamW& a, const G* grad, const Exec& ex) {
  const math::AdamWFactors f = math::adamw_factors(a);
  for_tiles<Nothing>(
      ex, a.grad.rows(), a.grad.cols(),
      [&](Nothing&, int64_t first, int64_t count) {
        if constexpr (hash)
          std::memset(a.tile_digests.as<int64_t>() + 4 * first, 0, static_cast<size_t>(32 * count));
      },
      [&](Nothing&, const Segment& s) { adamw_segment<hash>(a, f, grad, s); },
      [](Nothing&, int64_t, int64_t) {});
}

}  // namespace

void launch(KN_CPU, const GradNorm& a, const Exec& ex) {
  const F32 scale = set1(a.scale);
  double* out = a.out.as<double>();
  by_grad(a.grad, [&](auto* grad) {
    for_tiles<TileSums>(
        ex, a.grad.rows(), a.grad.cols(),
        [](TileSums& t, int64_t, int64_t count) {
          for (int64_t s = 0; s < count; ++s) t.sum[s] = zero64();
        },
        [&](TileSums& t, const Segment& s) {
          F64 sum = t.sum[s.slot];
          for_lanes(s.n, [&](int64_t i, int64_t n) {
            add_squares(sum, mul(load_grad(grad + s.at + i, n), scale));
          });
          t.sum[s.slot] = sum;
        },
        [&](TileSums& t, int64_t first, int64_t count) {
          for (int64_t s = 0; s < count; ++s) out[first + s] = sum_lanes(t.sum[s]);
        });
  });
}

void launch(KN_CPU, const AdamW& a, const Exec& ex) {
  by_grad(a.grad,
          [&](auto* grad) { a.digest ? adamw_pass<true>(a, grad, ex) : adamw_pass<false>(a, grad, ex); });
  if (!a.digest) return;
  int64_t* digest = a.digest.as<int64_t>();
  const int64_t* tile = a.tile_digests.as<int64_t>();
  for (int64_t t = 0; t < tiles_of(a.grad.rows(), a.grad.cols()); ++t, tile += 4) {
    add_hash(digest, {static_cast<uint64_t>(tile[0]), static_cast<uint64_t>(tile[1])});
    add_hash(digest + 2, {static_cast<uint64_t>(tile[2]), static_cast<uint64_t>(tile[3])});
  }
}

}  // namespace llmctl::kn
