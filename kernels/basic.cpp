// SPDX-License-Identifier: Apache-2.0
// Data movement and digests on the CPU.
#include "kernels/basic.h"

#include "kernels/simd.h"
#include "kernels/tiles.h"

namespace llmctl::kn {

#if KN_ONCE
void Convert::check() const {
  const bool same = x.dtype == y.dtype;
  const bool widens = x.dtype == DType::f16 && y.dtype == DType::f32;
  llmctl::check(same || widens || (is_row_type(x) && is_row_type(y)), Code::unsupported, "[", kName, "] ",
                name_of(x.dtype), " to ", name_of(y.dtype), " is not offered");
  llmctl::check(x.size() == y.size(), Code::bug, "[", kName, "] x has ", x.size(), " elements and y ",
                y.size());
}

void Clear::check() const {}

void AddWhole::check() const {
  llmctl::check(x.dtype == DType::i64 && y.dtype == DType::i64 && x.size() == y.size(), Code::bug, "[", kName, "] ",
                x.size(), " of ", name_of(x.dtype), " to ", y.size(), " of ", name_of(y.dtype), ": want as many i64");
}

void GatherRows::check() const {
  llmctl::check(x.dtype == y.dtype && x.cols() == y.cols(), Code::bug, "[", kName, "] x has ", x.cols(),
                " columns of ", name_of(x.dtype), " and y ", y.cols(), " of ", name_of(y.dtype));
  check_vector(kName, "index", index, DType::i32, y.rows());
}

void TensorDigest::check() const {
  llmctl::check(x.dtype == DType::f32 || x.dtype == DType::i32 || x.dtype == DType::bf16 ||
                    x.dtype == DType::f16 || x.dtype == DType::i64,
                Code::unsupported, "[", kName, "] no digest of ", name_of(x.dtype));
  check_vector(kName, "tile_digests", tile_digests, DType::i64, 2 * tiles_of(x.rows(), x.cols()));
  check_vector(kName, "out", out, DType::i64, 2);
}
#endif

namespace {

constexpr int64_t kBlock = 16384, kBlockBytes = 65536;

// Every f16 is a normal f32: numbers by moving the exponent, subnormals as integers times 2^-24.
KN_INLINE F32 widen_f16(I32 h) {
  const I32 magnitude = iand(h, iset1(0x7fff)), sign = shl<16>(iand(h, iset1(0x8000)));
  const I32 bias = iset1(112 << 23), shifted = iadd(shl<13>(magnitude), bias);
  const I32 finite = iselect(ilt(magnitude, iset1(0x7c00)), shifted, iadd(shifted, bias));
  const I32 small = bits(mul(to_float(magnitude), set1(0x1p-24f)));
  return from_bits(ior(iselect(ilt(magnitude, iset1(0x400)), small, finite), sign));
}

void copy(const View& x, const View& y, const Exec& ex) {
  const char* from = x.as<char>();
  char* to = y.as<char>();
  for_blocks(ex, x.bytes(), kBlockBytes, [&](int64_t begin, int64_t end) {
    std::memmove(to + begin, from + begin, static_cast<size_t>(end - begin));
  });
}

template <class X, class Y>
void convert(const X* x, Y* y, int64_t size, const Exec& ex) {
  for_blocks(ex, size, kBlock, [&](int64_t begin, int64_t end) {
    for_lanes(end - begin,
              [&](int64_t i, int64_t n) { store_row(y + begin + i, load_row(x + begin + i, n), n); });
  });
}

void convert_f16(const uint16_t* x, float* y, int64_t size, const Exec& ex) {
  for_blocks(ex, size, kBlock, [&](int64_t begin, int64_t end) {
    for_lanes(end - begin, [&](int64_t i, int64_t n) {
      uint16_t t[kLanes] = {};
      std::memcpy(t, x + begin + i, static_cast<size_t>(n) * 2);
      store(y + begin + i, widen_f16(load_u16(t)), n);
    });
  });
}

template <class T>
void digest_tiles(const TensorDigest& a, const T* x, const Exec& ex) {
  struct Sums {
    Hash128 tile[kTilesPerTask];
  };
  int64_t* out = a.tile_digests.as<int64_t>();
  for_tiles<Sums>(
      ex, a.x.rows(), a.x.cols(), [](Sums&, int64_t, int64_t) {},
      [&](Sums& t, const Segment& s) {
        RowHasher h = row_hasher();
        for_lanes(s.n, [&](int64_t i, int64_t n) { hash_lanes(h, x + s.at + i, i, n); });
        t.tile[s.slot] = t.tile[s.slot] + row_hash(sums_of(h), place_of(a.key, s));
      },
      [&](Sums& t, int64_t first, int64_t count) {
        for (int64_t s = 0; s < count; ++s) {
          out[2 * (first + s)] = static_cast<int64_t>(t.tile[s].low);
          out[2 * (first + s) + 1] = static_cast<int64_t>(t.tile[s].high);
        }
      });
}

}  // namespace

void launch(KN_CPU, const Convert& a, const Exec& ex) {
  if (a.x.dtype == a.y.dtype) return copy(a.x, a.y, ex);
  if (a.x.dtype == DType::f16) return convert_f16(a.x.as<uint16_t>(), a.y.as<float>(), a.x.size(), ex);
  if (a.x.dtype == DType::f32) return convert(a.x.as<float>(), a.y.as<bf16_t>(), a.x.size(), ex);
  convert(a.x.as<bf16_t>(), a.y.as<float>(), a.x.size(), ex);
}

void launch(KN_CPU, const Clear& a, const Exec& ex) {
  for_blocks(ex, a.x.bytes(), kBlockBytes, [&](int64_t begin, int64_t end) {
    std::memset(a.x.as<char>() + begin, 0, static_cast<size_t>(end - begin));
  });
}

void launch(KN_CPU, const AddWhole& a, const Exec& ex) {
  const auto* x = a.x.as<uint64_t>();
  auto* y = a.y.as<uint64_t>();
  for_blocks(ex, a.x.size(), kBlock, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) y[i] += x[i];
  });
}

void launch(KN_CPU, const GatherRows& a, const Exec& ex) {
  const int64_t row = a.x.cols() * size_of(a.x.dtype);
  const int32_t* index = a.index.as<int32_t>();
  for_blocks(ex, a.y.rows(), rows_per_task(a.x.cols()), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      std::memcpy(a.y.as<char>() + r * row, a.x.as<char>() + index[r] * row, static_cast<size_t>(row));
  });
}

void launch(KN_CPU, const TensorDigest& a, const Exec& ex) {
  switch (size_of(a.x.dtype)) {
    case 2:
      digest_tiles(a, a.x.as<uint16_t>(), ex);
      break;
    case 4:
      digest_tiles(a, a.x.as<float>(), ex);
      break;
    default:
      digest_tiles(a, a.x.as<int64_t>(), ex);
  }
  const int64_t* tile = a.tile_digests.as<int64_t>();
  int64_t sum[2] = {0, 0};
  for (int64_t t = 0; t < tiles_of(a.x.rows(), a.x.cols()); ++t, tile += 2)
    add_hash(sum, {static_cast<uint64_t>(tile[0]), static_cast<uint64_t>(tile[1])});
  a.out.as<int64_t>()[0] = sum[0];
  a.out.as<int64_t>()[1] = sum[1];
}

}  // namespace llmctl::kn
