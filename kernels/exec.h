// SPDX-License-Identifier: Apache-2.0
// Where and how an op runs. Exec is passed by reference to every op; there are no globals.
//
// CPU work is cut into tasks 0..n-1 that share no sum, so results cannot depend on the cut nor on who
// runs what. Every pool thread and the caller run tasks with denormals-are-zero and
// flush-to-zero set (NUMERICS rule 7).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace llmctl::kn {

// Those of this CPU's family, best last. Portable is scalar code with FMA. The same bits on every one.
#ifdef __aarch64__
enum class Isa : uint8_t { portable, neon };
#else
// amx runs the bodies of avx512_bf16, which use tiles where it is asked for.
enum class Isa : uint8_t { portable, avx2, avx512, avx512_bf16, amx };
#endif
const char* name_of(Isa isa);
// The instruction sets this CPU has, best first. Empty on a CPU without FMA (refuse: exit 4).
std::vector<Isa> supported_isas();
// Parses a name of supported_isas(); throws Error{usage}.
Isa isa_from_name(const std::string& name);

// Fixed set of threads; the caller is thread 0. Workers spin briefly after a job, then park.
// run() is not reentrant and is called from one thread at a time.
class ThreadPool {
 public:
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const;
  // Calls task(ctx, i) once for each i in [0, n), on any thread, in any order; returns when all
  // are done. Tasks must not throw.
  void run(int64_t n, void (*task)(void* ctx, int64_t i), void* ctx);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Sets DAZ and FTZ (FZ and DN on ARM) on the calling thread; idempotent. Pool threads and run() callers have it.
void set_denormals_are_zero();

enum class DeviceKind : uint8_t { cpu, cuda };
struct Device {
  DeviceKind kind = DeviceKind::cpu;
  int index = 0;
};

// Called by the op door around each launch when set.
struct OpTrace {
  virtual ~OpTrace() = default;
  virtual void begin(const char* op) = 0;
  virtual void end(const char* op) = 0;
};

struct Exec {
  Device device;
  Isa isa = Isa::portable;
  ThreadPool* pool = nullptr;  // required on the CPU
  void* stream = nullptr;      // cudaStream_t on CUDA
  // On CUDA: bodies of level `backend` may use tensor cores, in an order of their own. Without, they sum
  // in the CPU's order and give its bits.
  bool tensor_cores = true;
  bool plan = false;           // dry run: check shapes, touch nothing
  OpTrace* trace = nullptr;
};

// body(i) for i in [0, n) on ex.pool. The lambda lives on the caller's stack.
template <class Body>
inline void parallel_for(const Exec& ex, int64_t n, Body&& body) {
  using B = std::remove_reference_t<Body>;
  ex.pool->run(
      n, [](void* ctx, int64_t i) { (*static_cast<B*>(ctx))(i); },
      const_cast<void*>(static_cast<const void*>(&body)));
}

}  // namespace llmctl::kn
