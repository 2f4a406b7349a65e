// SPDX-License-Identifier: Apache-2.0
#include "kernels/exec.h"

#ifndef __aarch64__
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <sys/resource.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "kernels/error.h"

namespace llmctl::kn {

#ifdef __aarch64__
const char* name_of(Isa isa) { return isa == Isa::neon ? "neon" : "portable"; }

std::vector<Isa> supported_isas() { return {Isa::neon, Isa::portable}; }

void set_denormals_are_zero() {
  uint64_t fpcr;
  asm volatile("mrs %0, fpcr" : "=r"(fpcr));
  asm volatile("msr fpcr, %0" : : "r"(fpcr | 3u << 24));  // FZ, DN
}

namespace {
void spin_pause() { asm volatile("yield"); }
}  // namespace
#else
const char* name_of(Isa isa) {
  constexpr const char* names[] = {"portable", "avx2", "avx512", "avx512_bf16", "amx"};
  return names[static_cast<int>(isa)];
}

namespace {
// The CPU has tiles for bf16 and int8, and Linux grants this process (all its threads) their state.
bool tiles_usable() {
  unsigned a, b, c, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24, kInt8 = 1u << 25;
  if ((d & (kBf16 | kTile | kInt8)) != (kBf16 | kTile | kInt8)) return false;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // arch_prctl(2), since Linux 5.16
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
}  // namespace

std::vector<Isa> supported_isas() {
  __builtin_cpu_init();
  std::vector<Isa> found;
  if (!__builtin_cpu_supports("fma")) return found;
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (avx512 && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni")) {
    if (tiles_usable()) found.push_back(Isa::amx);
    found.push_back(Isa::avx512_bf16);
  }
  if (avx512) found.push_back(Isa::avx512);
  if (avx2) found.push_back(Isa::avx2);
  found.push_back(Isa::portable);
  return found;
}

void set_denormals_are_zero() { _mm_setcsr(_mm_getcsr() | 0x8040); }

namespace {
void spin_pause() { _mm_pause(); }
}  // namespace
#endif

Isa isa_from_name(const std::string& name) {
  std::string known;
  for (Isa isa : supported_isas()) {
    if (name == name_of(isa)) return isa;
    known += std::string(known.empty() ? "" : ", ") + name_of(isa);
  }
  throw Error(Code::usage, "[isa] '" + name + "' is not an instruction set of this CPU: choose one of " + known);
}

namespace {
// Long enough to bridge the gap between two ops of a step, short enough to leave a shared core.
constexpr int kSpins = 1000;
}  // namespace

// A job's tasks are cut into one run for each thread, the same runs for the same number of tasks: a
// thread meets the weights and pages of the step before in its own cache. Who is done with his run
// takes from the others'.
//
// A run is claimed task by task through one word, (epoch, next task): the compare-and-swap fails when
// the job has moved on. The caller waits for the tasks, never for workers, so a worker that the system
// has put aside costs nothing.
struct ThreadPool::State {
  struct alignas(64) Run {
    std::atomic<uint64_t> word{0};
  };

  explicit State(int threads) : count(threads), runs(static_cast<size_t>(threads)) {}

  const int64_t count;
  std::vector<Run> runs;
  std::vector<std::thread> workers;
  std::mutex mutex;
  std::condition_variable wake;
  alignas(64) std::atomic<uint64_t> job{0};  // 2 * epoch, odd while the fields change
  std::atomic<int64_t> n{0};
  std::atomic<void (*)(void*, int64_t)> task{nullptr};
  std::atomic<void*> ctx{nullptr};
  alignas(64) std::atomic<int64_t> done{0};
  std::atomic<bool> stop{false};
  std::atomic<int> parked{0};

  // The next task of a run of `size` in this epoch, or -1. Only a run that was never claimed from in
  // an epoch can be older than it, and then the job is not over.
  static int64_t claim(Run& run, uint32_t epoch, int64_t size) {
    uint64_t seen = run.word.load(std::memory_order_acquire);
    while (size > 0) {
      const auto age = static_cast<int32_t>(epoch - static_cast<uint32_t>(seen >> 32));
      if (age < 0) return -1;
      const uint64_t next = age == 0 ? seen & 0xffffffffu : 0;
      if (static_cast<int64_t>(next) >= size) return -1;
      const uint64_t then = (static_cast<uint64_t>(epoch) << 32) + next + 1;
      if (run.word.compare_exchange_weak(seen, then, std::memory_order_acq_rel)) return static_cast<int64_t>(next);
    }
    return -1;
  }

  // Runs tasks of the open job until none is left; returns the job seen.
  uint64_t drain(int64_t self) {
    const uint64_t seen = job.load(std::memory_order_acquire);
    const int64_t tasks = n.load(std::memory_order_acquire);
    const auto body = task.load(std::memory_order_acquire);
    void* const argument = ctx.load(std::memory_order_acquire);
    if (seen % 2 != 0 || job.load(std::memory_order_acquire) != seen) return seen;  // fields of two jobs
    for (int64_t i = 0; i < count; ++i) {
      const int64_t r = (self + i) % count, begin = tasks * r / count, size = tasks * (r + 1) / count - begin;
      int64_t next;
      while ((next = claim(runs[static_cast<size_t>(r)], static_cast<uint32_t>(seen / 2), size)) >= 0) {
        body(argument, begin + next);
        done.fetch_add(1, std::memory_order_release);
      }
    }
    return seen;
  }

  // Returns when the job is no longer `seen`, or was about to change.
  void wait_for(uint64_t seen) {
    for (int i = 0; i < kSpins; ++i) {
      if (seen % 2 != 0 || job.load(std::memory_order_acquire) != seen || stop.load(std::memory_order_relaxed)) return;
      spin_pause();
    }
    std::unique_lock lock(mutex);
    parked.fetch_add(1);
    wake.wait(lock, [&] { return job.load() != seen || stop.load(); });
    parked.fetch_sub(1);
  }

  void work(int64_t self) {
    set_denormals_are_zero();
    while (!stop.load()) wait_for(drain(self));
  }
};

ThreadPool::ThreadPool(int threads) {
  check(threads >= 1 && threads <= 1024, Code::usage, "[threads] ", threads, " is not in 1..1024");
  // Tasks keep up to 1.4 MiB on the stack; a thread's is the limit's size, or 2 MiB where there is none.
  rlimit stack{};
  constexpr rlim_t kLeast = 2 << 20;
  if (::getrlimit(RLIMIT_STACK, &stack) == 0 && stack.rlim_cur != RLIM_INFINITY)
    check(stack.rlim_cur >= kLeast, Code::memory, "[threads] the stack's limit is ", stack.rlim_cur / 1024,
          " KiB, at least ", kLeast / 1024, " are needed: ulimit -s 8192");
  state_ = std::make_unique<State>(threads);
  for (int i = 1; i < threads; ++i) state_->workers.emplace_back([s = state_.get(), i] { s->work(i); });
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
  check(n < int64_t{1} << 32, Code::bug, "[threads] ", n, " tasks in one job");
  // Release and acquire on the fields: who sees a new field also sees that the old job is closed.
  const uint64_t before = s.job.load(std::memory_order_relaxed);
  s.job.store(before + 1);
  // Runs that no job ever had tasks for must not grow so old that they look young.
  if ((before / 2 + 1) % (1u << 30) == 0)
    for (State::Run& r : s.runs) r.word.store(((before / 2 + 1) & 0xffffffffu) << 32);
  s.n.store(n, std::memory_order_release);
  s.task.store(task, std::memory_order_release);
  s.ctx.store(ctx, std::memory_order_release);
  s.done.store(0, std::memory_order_relaxed);
  s.job.store(before + 2);  // sequentially consistent with parked: no wake-up is lost
  if (s.parked.load() > 0) {
    std::lock_guard lock(s.mutex);
    s.wake.notify_all();
  }
  s.drain(0);
  for (int spins = 0; s.done.load(std::memory_order_acquire) < n; ++spins)
    if (spins < kSpins)
      spin_pause();
    else
      std::this_thread::yield();
}

}  // namespace llmctl::kn
