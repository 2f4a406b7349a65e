// SPDX-License-Identifier: Apache-2.0
#include "kernels/exec.h"

#include <immintrin.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "kernels/error.h"

namespace llmctl::kn {

const char* name_of(Isa isa) {
  constexpr const char* names[] = {"portable", "avx2", "avx512", "avx512_bf16"};
  return names[static_cast<int>(isa)];
}

std::vector<Isa> supported_isas() {
  __builtin_cpu_init();
  std::vector<Isa> found;
  if (!__builtin_cpu_supports("fma")) return found;
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (avx512 && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni"))
    found.push_back(Isa::avx512_bf16);
  if (avx512) found.push_back(Isa::avx512);
  if (avx2) found.push_back(Isa::avx2);
  found.push_back(Isa::portable);
  return found;
}

Isa isa_from_name(const std::string& name) {
  std::string known;
  for (Isa isa : supported_isas()) {
    if (name == name_of(isa)) return isa;
    known += std::string(known.empty() ? "" : ", ") + name_of(isa);
  }
  throw Error(Code::usage, "[isa] '" + name + "' is not an instruction set of this CPU: choose one of " + known);
}

void set_denormals_are_zero() { _mm_setcsr(_mm_getcsr() | 0x8040); }

namespace {
// Long enough to bridge the gap between two ops of a step, short enough to leave a shared core.
constexpr int kSpins = 4000;
}  // namespace

struct ThreadPool::State {
  std::vector<std::thread> workers;
  std::mutex mutex;
  std::condition_variable wake;
  // A job is published by bumping `epoch` after the fields below are written.
  std::atomic<uint64_t> epoch{0};
  std::atomic<int64_t> next{0};
  std::atomic<int> busy{0};
  std::atomic<bool> stop{false};
  std::atomic<int> parked{0};
  int64_t n = 0;
  void (*task)(void*, int64_t) = nullptr;
  void* ctx = nullptr;

  void drain() {
    for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < n;) task(ctx, i);
  }

  uint64_t wait_for(uint64_t seen) {
    for (int i = 0; i < kSpins; ++i) {
      uint64_t e = epoch.load(std::memory_order_acquire);
      if (e != seen || stop.load(std::memory_order_relaxed)) return e;
      _mm_pause();
    }
    std::unique_lock lock(mutex);
    parked.fetch_add(1);
    wake.wait(lock, [&] { return epoch.load() != seen || stop.load(); });
    parked.fetch_sub(1);
    return epoch.load();
  }

  void work() {
    set_denormals_are_zero();
    uint64_t seen = 0;
    while (true) {
      uint64_t e = wait_for(seen);
      if (stop.load()) return;
      seen = e;
      drain();
      busy.fetch_sub(1, std::memory_order_release);
    }
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  check(threads >= 1 && threads <= 1024, Code::usage, "[threads] ", threads, " is not in 1..1024");
  for (int i = 1; i < threads; ++i) state_->workers.emplace_back([s = state_.get()] { s->work(); });
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(state_->mutex);
    state_->stop = true;
  }
  state_->wake.notify_all();
  for (auto& w : state_->workers) w.join();
}

int ThreadPool::threads() const { return static_cast<int>(state_->workers.size()) + 1; }

void ThreadPool::run(int64_t n, void (*task)(void*, int64_t), void* ctx) {
  set_denormals_are_zero();
  State& s = *state_;
  if (s.workers.empty() || n <= 1) {
    for (int64_t i = 0; i < n; ++i) task(ctx, i);
    return;
  }
  s.n = n;
  s.task = task;
  s.ctx = ctx;
  s.next.store(0, std::memory_order_relaxed);
  s.busy.store(static_cast<int>(s.workers.size()), std::memory_order_relaxed);
  s.epoch.fetch_add(1);  // sequentially consistent with parked: no wake-up is lost
  if (s.parked.load() > 0) {
    std::lock_guard lock(s.mutex);
    s.wake.notify_all();
  }
  s.drain();
  // Workers that have not arrived yet find no task left; every one must check in before the next
  // job's fields are written.
  for (int spins = 0; s.busy.load(std::memory_order_acquire) > 0; ++spins)
    if (spins < kSpins)
      _mm_pause();
    else
      std::this_thread::yield();
}

}  // namespace llmctl::kn
