// SPDX-License-Identifier: Apache-2.0
// What every kernel test needs: memory with fences, seeded values, one run of an op on every
// instruction set and several thread counts with equal bits demanded, and an f64 comparison.
//
//   Buffer x(DType::bf16, {5, 64}), y(DType::f32, {5, 64});
//   x.fill(1);
//   check_same_bits(ScaleFwd{.x = x, .y = y, .by = 2}, {&y});       // y poisoned before each run
//   check_close(y, expected, 1e-6);                                 // vector<double>, caller's bound
#pragma once

#include <catch2/catch.hpp>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "kernels/op.h"

namespace llmctl::kn {

// Counter-based test values: the n-th number of a seed (splitmix64).
inline uint64_t test_bits(uint64_t seed, uint64_t n) {
  uint64_t z = seed * 0x9e3779b97f4a7c15u + (n + 1) * 0xd1342543de82ef95u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}
// Roughly normal, variance 1, exact in f32 arithmetic of any compiler.
inline double test_normal(uint64_t seed, uint64_t n) {
  const uint64_t b = test_bits(seed, n);
  int64_t sum = 0;
  for (int i = 0; i < 4; ++i) sum += static_cast<int64_t>((b >> (16 * i)) & 0xffffu);
  return static_cast<double>(sum - 131070) / 37836.0;
}
inline float test_widen(bf16_t h) {
  const uint32_t b = static_cast<uint32_t>(h) << 16;
  float f;
  std::memcpy(&f, &b, 4);
  return f;
}
inline bf16_t test_narrow(float f) {
  uint32_t b;
  std::memcpy(&b, &f, 4);
  if ((b & 0x7f800000u) == 0) return static_cast<bf16_t>((b >> 31) << 15);
  if ((b & 0x7fffffffu) > 0x7f800000u) return static_cast<bf16_t>((b >> 16) | 0x40);
  return static_cast<bf16_t>((b + 0x7fffu + ((b >> 16) & 1u)) >> 16);
}

// A view that owns its memory, 64-byte aligned, with 64 bytes of 0xff (NaN in every float type)
// on both sides that must survive every op.
class Buffer {
 public:
  Buffer(DType dtype, std::initializer_list<int64_t> dims) {
    View shape(nullptr, dtype, dims);
    bytes_ = shape.bytes();
    const size_t room = static_cast<size_t>((bytes_ + 63) / 64 * 64 + 128);
    memory_.reset(static_cast<unsigned char*>(std::aligned_alloc(64, room)));
    std::memset(memory_.get(), 0xff, room);
    view_ = shape;
    view_.data = memory_.get() + 64;
  }
  operator View() const { return view_; }
  const View& view() const { return view_; }
  int64_t size() const { return view_.size(); }
  int64_t bytes() const { return bytes_; }
  template <class T>
  T* as() const {
    return view_.as<T>();
  }
  Buffer& poison() {
    std::memset(view_.data, 0xff, static_cast<size_t>(bytes_));
    return *this;
  }
  Buffer& zero() {
    std::memset(view_.data, 0, static_cast<size_t>(bytes_));
    return *this;
  }
  Buffer& fill(uint64_t seed, double scale = 1.0) {
    for (int64_t i = 0; i < size(); ++i) set(i, scale * test_normal(seed, static_cast<uint64_t>(i)));
    return *this;
  }
  // Integers in [low, high].
  Buffer& fill_int(uint64_t seed, int64_t low, int64_t high) {
    const uint64_t range = static_cast<uint64_t>(high - low + 1);
    for (int64_t i = 0; i < size(); ++i)
      set(i, static_cast<double>(low + static_cast<int64_t>(test_bits(seed, static_cast<uint64_t>(i)) % range)));
    return *this;
  }
  double at(int64_t i) const {
    switch (view_.dtype) {
      case DType::f32: return static_cast<double>(as<float>()[i]);
      case DType::bf16: return static_cast<double>(test_widen(as<bf16_t>()[i]));
      case DType::i64: return static_cast<double>(as<int64_t>()[i]);
      case DType::i32: return as<int32_t>()[i];
      case DType::i8: return as<int8_t>()[i];
      case DType::u8: return as<uint8_t>()[i];
      case DType::u16: return as<uint16_t>()[i];
      case DType::u32: return as<uint32_t>()[i];
      case DType::f16: break;
    }
    throw Error(Code::bug, "[op_check] no such dtype");
  }
  void set(int64_t i, double v) {
    switch (view_.dtype) {
      case DType::f32: as<float>()[i] = static_cast<float>(v); return;
      case DType::bf16: as<bf16_t>()[i] = test_narrow(static_cast<float>(v)); return;
      case DType::i64: as<int64_t>()[i] = static_cast<int64_t>(v); return;
      case DType::i32: as<int32_t>()[i] = static_cast<int32_t>(v); return;
      case DType::i8: as<int8_t>()[i] = static_cast<int8_t>(v); return;
      case DType::u8: as<uint8_t>()[i] = static_cast<uint8_t>(v); return;
      case DType::u16: as<uint16_t>()[i] = static_cast<uint16_t>(v); return;
      case DType::u32: as<uint32_t>()[i] = static_cast<uint32_t>(v); return;
      case DType::f16: break;
    }
    throw Error(Code::bug, "[op_check] no such dtype");
  }
  bool fences_hold() const {
    const unsigned char* end = memory_.get() + 64 + bytes_;
    for (int i = 0; i < 64; ++i)
      if (memory_.get()[i] != 0xff || end[i] != 0xff) return false;
    return true;
  }

 private:
  struct Free {
    void operator()(unsigned char* p) const { std::free(p); }
  };
  std::unique_ptr<unsigned char, Free> memory_;
  int64_t bytes_ = 0;
  View view_;
};

// One Exec on the CPU; pools of 1..3 threads live as long as the test program.
inline Exec test_exec(Isa isa, int threads = 1) {
  static ThreadPool pools[3] = {ThreadPool(1), ThreadPool(2), ThreadPool(3)};
  Exec ex;
  ex.isa = isa;
  ex.pool = &pools[threads - 1];
  return ex;
}

// Runs op on every supported instruction set with 1, 2 and 3 threads and demands the same bytes in
// every output. `written` is poisoned before each run, `updated` (read and written) is restored.
// The outputs hold the common result afterwards.
template <class Op>
void check_same_bits(const Op& op, std::initializer_list<Buffer*> written,
                     std::initializer_list<Buffer*> updated = {}) {
  auto bytes_of = [](const Buffer& b) {
    return std::string(b.as<char>(), static_cast<size_t>(b.bytes()));
  };
  std::vector<std::string> before, first;
  for (Buffer* b : updated) before.push_back(bytes_of(*b));
  for (Isa isa : supported_isas())
    for (int threads = 1; threads <= 3; ++threads) {
      INFO(Op::kName << " on " << name_of(isa) << " with " << threads << " threads");
      for (Buffer* b : written) b->poison();
      size_t u = 0;
      for (Buffer* b : updated) std::memcpy(b->view().data, before[u].data(), before[u].size()), ++u;
      run(op, test_exec(isa, threads));
      std::vector<std::string> now;
      for (Buffer* b : written) now.push_back(bytes_of(*b));
      for (Buffer* b : updated) now.push_back(bytes_of(*b));
      for (Buffer* b : written) REQUIRE(b->fences_hold());
      for (Buffer* b : updated) REQUIRE(b->fences_hold());
      if (first.empty()) first = now;
      const bool same = first == now;  // not in the macro: a failure would print megabytes
      REQUIRE(same);
    }
}

// |got - want| <= bound * (rms(want) + |want|) for every element.
inline void check_close(const Buffer& got, const std::vector<double>& want, double bound) {
  REQUIRE(static_cast<size_t>(got.size()) == want.size());
  double square = 0;
  for (double w : want) square += w * w;
  const double rms = want.empty() ? 0 : std::sqrt(square / static_cast<double>(want.size()));
  double worst = 0;
  int64_t where = 0;
  for (int64_t i = 0; i < got.size(); ++i) {
    const double w = want[static_cast<size_t>(i)];
    const double e = std::fabs(got.at(i) - w) / (rms + std::fabs(w) + 1e-30);
    if (!(e <= worst)) worst = e, where = i;  // a NaN lands here too
  }
  INFO("element " << where << ": got " << (got.size() ? got.at(where) : 0) << ", want "
                  << (want.empty() ? 0 : want[static_cast<size_t>(where)]));
  REQUIRE(worst <= bound);
}

}  // namespace llmctl::kn
