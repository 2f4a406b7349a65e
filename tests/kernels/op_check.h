// SPDX-License-Identifier: Apache-2.0
// What every kernel test needs: memory with fences, seeded values, one run of an op on every
// instruction set and several thread counts with equal bits demanded, and an f64 comparison.
//
//   Buffer x(DType::bf16, {5, 64}), y(DType::f32, {5, 64});
//   x.fill(1);
//   check_same_bits(ScaleFwd{.x = x, .y = y, .by = 2}, {&y});       // y poisoned before each run
//   check_close(y, expected, 1e-6);                                 // vector<double>, caller's bound
#pragma once

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "kernels/op.h"
#include "tests/kernels/device_checks.h"

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
    Registry::all()[reinterpret_cast<const char*>(memory_.get())] = room;
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
  // Fences on both sides of the bytes at `whole`, which are this buffer's or a copy of them.
  bool fences_hold(const char* whole) const {
    for (int64_t i = 0; i < 64; ++i)
      if (whole[i] != '\xff' || whole[64 + bytes_ + i] != '\xff') return false;
    return true;
  }
  bool fences_hold() const { return fences_hold(memory()); }
  const char* memory() const { return reinterpret_cast<const char*>(memory_.get()); }

 private:
  struct Free {
    void operator()(unsigned char* p) const {
      Registry::all().erase(reinterpret_cast<const char*>(p));
      std::free(p);
    }
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

// Elements of two buffers of one shape: the largest |a - b| over the rms of b.
inline double difference(const Buffer& like, const char* a, const char* b) {
  Buffer x(like.view().dtype, {like.size()}), y(like.view().dtype, {like.size()});
  std::memcpy(x.view().data, a + 64, static_cast<size_t>(like.bytes()));
  std::memcpy(y.view().data, b + 64, static_cast<size_t>(like.bytes()));
  double square = 0, worst = 0;
  for (int64_t i = 0; i < x.size(); ++i) square += y.at(i) * y.at(i);
  for (int64_t i = 0; i < x.size(); ++i)
    if (const double d = std::fabs(x.at(i) - y.at(i)); !(d <= worst)) worst = d;  // a NaN lands here too
  return worst / (std::sqrt(square / static_cast<double>(x.size())) + 1e-30);
}

// The same case on the device under test. `written` and `updated` hold the CPU's result, and the updated
// ones held `before`: at level any-cpu+cuda the device must give the CPU's bits; at level backend the
// same bits twice, near the CPU's, and without tensor cores the CPU's own.
template <class Op>
void check_on_device(const Op& op, std::initializer_list<Buffer*> written, std::initializer_list<Buffer*> updated,
                     const std::vector<std::string>& before) {
  const Exec* ex = device_under_test();
  if (!ex) return;
  INFO(Op::kName << " on the device");
  std::vector<Buffer*> outputs(written);
  outputs.insert(outputs.end(), updated.begin(), updated.end());
  std::map<const char*, std::string> cpu;
  for (Buffer* b : outputs) cpu[b->memory()].assign(b->memory(), static_cast<size_t>(b->bytes() + 128));
  for (Buffer* b : written) b->poison();
  size_t u = 0;
  for (Buffer* b : updated) std::memcpy(b->view().data, before[u].data(), before[u].size()), ++u;
  OnDevice<Op> there(op, *ex);
  bool refused = false;
  std::map<const char*, std::string> once, twice, plain;
  try {
    once = there.run_once();
    twice = there.run_once();
    Exec without = *ex;
    without.tensor_cores = false;
    plain = there.run_once(without);
  } catch (const Error& e) {
    INFO(e.what());
    REQUIRE(e.code == Code::unsupported);
    refused = true;
    note_device_refusal(Op::kName);
  }
  const bool same_bits = level_of(Op::kName) == Level::same_bits;
  const char* scratch = nullptr;  // what a body leaves there is its own
  if constexpr (requires { op.work; }) {
    const auto work = Registry::holding(op.work.template as<char>());
    if (work != Registry::all().end()) scratch = work->first;
  }
  double worst = 0;
  for (const auto& [host, bytes] : once) {
    const Buffer* output = nullptr;
    for (Buffer* b : outputs)
      if (b->memory() == host) output = b;
    const bool again = bytes == twice[host];
    REQUIRE(again);
    if (!output) {
      const bool untouched = std::memcmp(bytes.data(), host, bytes.size()) == 0;
      REQUIRE(untouched);
      continue;
    }
    REQUIRE(output->fences_hold(bytes.data()));
    if (host == scratch) continue;
    const bool exact = std::memcmp(plain[host].data() + 64, cpu[host].data() + 64, static_cast<size_t>(output->bytes())) == 0;
    REQUIRE(exact);
    const bool same = std::memcmp(bytes.data() + 64, cpu[host].data() + 64, static_cast<size_t>(output->bytes())) == 0;
    if (same) continue;
    REQUIRE_FALSE(same_bits);
    const double apart = difference(*output, bytes.data(), cpu[host].data());  // each output has its own limit
    REQUIRE(apart <= (output->view().dtype == DType::bf16 ? 0.05 : 0.01));
    worst = std::max(worst, apart);
  }
  if (!refused) note_device_case(Op::kName, worst);
  for (Buffer* b : outputs) std::memcpy(b->view().data, cpu[b->memory()].data() + 64, static_cast<size_t>(b->bytes()));
}

// Runs op on every supported instruction set with 1, 2 and 3 threads and demands the same bytes in
// every output; then on the device under test, if there is one (device_checks.h). `written` is poisoned
// before each run, `updated` (read and written) is restored. The outputs hold the CPU's result afterwards.
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
      if (device_under_test()) break;  // the CPU's own tests are another run's
    }
  check_on_device(op, written, updated, before);
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
