// SPDX-License-Identifier: Apache-2.0
#include <immintrin.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <vector>

#include "cuda_runtime.h"

extern "C" {
void emulated_switch(void** save, void* load);
extern char __start_emulated_shared[] __attribute__((weak));
extern char __stop_emulated_shared[] __attribute__((weak));
}
// Callee-saved registers on the old stack, those of the new one from it.
asm(R"(
.text
.globl emulated_switch
.type emulated_switch, @function
emulated_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size emulated_switch, .-emulated_switch
)");

namespace emulated {

thread_local dim3 thread_index, block_index, block_size, grid_size;
alignas(128) unsigned char dynamic_shared[232448];

namespace {

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "[emulated cuda] %s\n", what);
  std::_Exit(70);
}

// ------------------------------------------------------------------ memory
constexpr size_t kRegion = size_t{64} << 30;
char* region = nullptr;
size_t used = 0;
std::map<char*, size_t> blocks;  // allocated, by address
std::recursive_mutex device;     // one thing at a time

void on_fault(int, siginfo_t* info, void*) {
  const char* at = static_cast<const char*>(info->si_addr);
  if (region && at >= region && at < region + kRegion) {
    constexpr char text[] = "[emulated cuda] the host touched device memory\n";
    [[maybe_unused]] const auto n = ::write(2, text, sizeof text - 1);
    if (std::getenv("LLMCTL_EMULATED_ABORT")) std::abort();
    ::_exit(70);
  }
  ::signal(SIGSEGV, SIG_DFL);
}

struct Access {  // device memory is there within the scope
  Access() {
    device.lock();
    if (depth++ == 0 && used) ::mprotect(region, used, PROT_READ | PROT_WRITE);
  }
  ~Access() {
    if (--depth == 0 && used) ::mprotect(region, used, PROT_NONE);
    device.unlock();
  }
  static int depth;
};
int Access::depth = 0;

void* allocate(size_t bytes) {
  std::lock_guard lock(device);
  if (!region) {
    region = static_cast<char*>(::mmap(nullptr, kRegion, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (region == MAP_FAILED) fail("no address space");
    struct sigaction action {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO;
    ::sigaction(SIGSEGV, &action, nullptr);
  }
  const size_t size = (bytes + 8191) / 4096 * 4096;  // and a page that stays closed, before the next
  if (used + size > kRegion) return nullptr;
  char* p = region + used;
  used += size;
  blocks[p] = size;
  const Access open;
  std::memset(p, 0xff, bytes);  // nobody may count on zeros
  return p;
}

// ------------------------------------------------------------------ threads
enum class State : uint8_t { ready, barrier, warp, done };
struct Warp;
struct Fiber {
  void* sp = nullptr;
  State state = State::ready;
  uint64_t given = 0, got = 0;
  int source = 0;
  uint32_t mask = 0;
  void* argument = nullptr;
  struct Copy {
    void* to;
    const void* from;  // none: zeros
    int group;
  };
  std::vector<Copy> copies;
  int groups = 0;
};
struct Warp {
  uint32_t waiting = 0;
};

constexpr size_t kStack = 256 << 10;
constexpr int kMost = 1024;
char* stacks = nullptr;
Fiber fibers[kMost];
Warp warps[kMost / 32];
int threads = 0, live = 0, at_barrier = 0, self = -1;
void* scheduler = nullptr;
Body grid_body = nullptr;
const void* grid_context = nullptr;

void yield() {
  Fiber& f = fibers[self];
  emulated_switch(&f.sp, scheduler);
}

void fiber_main() {
  grid_body(grid_context);
  fibers[self].state = State::done;
  --live;
  yield();
  fail("a finished thread ran on");
}

void prepare(int i) {
  char* top = stacks + static_cast<size_t>(i + 1) * kStack;
  void** sp = reinterpret_cast<void**>(top - 64);
  *--sp = nullptr;  // where fiber_main would return to; keeps the stack aligned as after a call
  *--sp = reinterpret_cast<void*>(&fiber_main);
  for (int r = 0; r < 6; ++r) *--sp = nullptr;
  fibers[i] = Fiber{};
  fibers[i].sp = sp;
}

void release_barrier() {
  if (live == 0 || at_barrier < live) return;
  at_barrier = 0;
  for (int i = 0; i < threads; ++i)
    if (fibers[i].state == State::barrier) fibers[i].state = State::ready;
}

void run_block(const std::vector<int>& order) {
  if (__start_emulated_shared)
    std::memset(__start_emulated_shared, 0xff, static_cast<size_t>(__stop_emulated_shared - __start_emulated_shared));
  live = threads, at_barrier = 0;
  for (int i = 0; i < threads; ++i) prepare(i);
  for (int w = 0; w < (threads + 31) / 32; ++w) warps[w] = {};
  while (live > 0) {
    bool moved = false;
    for (int i : order) {
      if (fibers[i].state != State::ready) continue;
      moved = true;
      self = i;
      const unsigned u = static_cast<unsigned>(i), x = block_size.x, y = block_size.y;
      thread_index = dim3(u % x, u / x % y, u / x / y);
      emulated_switch(&scheduler, fibers[i].sp);
      release_barrier();  // also when the last one to be waited for has left
    }
    if (!moved) fail("threads wait for others that will not come: a barrier or shuffle within a branch");
  }
}

std::vector<int> thread_order() {
  static const char* how = std::getenv("LLMCTL_EMULATED_ORDER");
  std::vector<int> order(static_cast<size_t>(threads));
  for (int i = 0; i < threads; ++i) order[static_cast<size_t>(i)] = i;
  if (how && how[0] == 'r') std::reverse(order.begin(), order.end());
  uint64_t state = 1;
  if (how && how[0] == 's')
    for (size_t i = order.size(); i > 1; --i) {
      state = state * 6364136223846793005u + 1442695040888963407u;  // Knuth's
      std::swap(order[i - 1], order[(state >> 33) % i]);
    }
  return order;
}

// The lane waits until all of its mask are there; the last one to come runs `finish`.
template <class F>
void gather(uint32_t mask, F&& finish) {
  const int base = self / 32 * 32, lane = self % 32;
  Warp& w = warps[self / 32];
  if (!(mask >> lane & 1)) fail("a lane calls a warp operation whose mask does not name it");
  fibers[self].mask = mask;
  w.waiting |= 1u << lane;
  if ((w.waiting & mask) != mask) {
    fibers[self].state = State::warp;
    return yield();
  }
  for (int l = 0; l < 32; ++l)
    if (mask >> l & 1) {
      if (fibers[base + l].mask != mask) fail("lanes of one warp operation name different masks");
      fibers[base + l].state = State::ready;
    }
  w.waiting &= ~mask;
  finish(base);
}

}  // namespace

void run_grid(dim3 grid, dim3 block, size_t shared, Body body, const void* context) {
  const Access open;
  threads = static_cast<int>(block.x * block.y * block.z);
  if (threads < 1 || threads > kMost || shared > sizeof dynamic_shared || grid.y > 65535 || grid.z > 65535 || grid.x < 1 ||
      grid.y < 1 || grid.z < 1)
    fail("a launch with a configuration that no GPU takes");
  if (!stacks)
    stacks = static_cast<char*>(::mmap(nullptr, kStack * kMost, PROT_READ | PROT_WRITE,
                                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  const unsigned mode = _mm_getcsr();
  _mm_setcsr(mode | 0x8040);  // -ftz=true
  grid_body = body, grid_context = context;
  grid_size = grid, block_size = block;
  const std::vector<int> order = thread_order();
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) {
        block_index = dim3(x, y, z);
        if (shared) std::memset(dynamic_shared, 0xff, shared);
        run_block(order);
      }
  _mm_setcsr(mode);
}

void block_barrier() {
  fibers[self].state = State::barrier;
  ++at_barrier;
  yield();
}

int lane() { return self % 32; }

uint64_t exchange(uint32_t mask, uint64_t value, int source) {
  Fiber& f = fibers[self];
  f.given = value, f.source = source;
  gather(mask, [mask](int base) {
    for (int l = 0; l < 32; ++l)
      if (mask >> l & 1) {
        const int from = fibers[base + l].source;
        if (!(mask >> from & 1)) fail("a shuffle reads a lane that takes no part");
        fibers[base + l].got = fibers[base + from].given;
      }
  });
  return f.got;
}

uint32_t ballot(uint32_t mask, bool vote) {
  Fiber& f = fibers[self];
  f.given = vote;
  gather(mask, [mask](int base) {
    uint64_t bits = 0;
    for (int l = 0; l < 32; ++l)
      if (mask >> l & 1) bits |= fibers[base + l].given << l;
    for (int l = 0; l < 32; ++l)
      if (mask >> l & 1) fibers[base + l].got = bits;
  });
  return static_cast<uint32_t>(f.got);
}

namespace {

// f(what each lane gave), once for a whole warp.
template <class T, class F>
void together(T* argument, F&& f) {
  fibers[self].argument = argument;
  gather(0xffffffffu, [&f](int base) {
    T* all[32];
    for (int l = 0; l < 32; ++l) all[l] = static_cast<T*>(fibers[base + l].argument);
    f(all);
  });
}

double half_of(uint32_t pair, int which) {
  return static_cast<double>(__uint_as_float(which ? pair & 0xffff0000u : pair << 16));
}

struct Product {
  float* c;
  const uint32_t *a, *b;
};

// The PTX ISA's fragments of mma.m16n8k16 with 16-bit operands.
void multiply(Product* all[32]) {
  double a[16][16], b[16][8];
  for (int l = 0; l < 32; ++l)
    for (int h = 0; h < 2; ++h) {
      for (int r = 0; r < 4; ++r) a[l / 4 + r % 2 * 8][l % 4 * 2 + h + r / 2 * 8] = half_of(all[l]->a[r], h);
      for (int r = 0; r < 2; ++r) b[l % 4 * 2 + h + r * 8][l / 4] = half_of(all[l]->b[r], h);
    }
  for (int l = 0; l < 32; ++l)
    for (int e = 0; e < 4; ++e) {
      const int row = l / 4 + e / 2 * 8, column = l % 4 * 2 + e % 2;
      double sum = static_cast<double>(all[l]->c[e]);
      for (int k = 0; k < 16; ++k) sum += a[row][k] * b[k][column];
      all[l]->c[e] = static_cast<float>(sum);
    }
}

struct Turn {
  uint32_t* r;
  const uint16_t* row;
};

}  // namespace

void mma_bf16(float* c, const uint32_t* a, const uint32_t* b) {
  Product p{c, a, b};
  together(&p, multiply);
}

void load_transposed(uint32_t* r, const void* row) {
  if (reinterpret_cast<uintptr_t>(row) % 16 != 0) fail("ldmatrix of a row that does not lie at a multiple of 16 bytes");
  Turn t{r, static_cast<const uint16_t*>(row)};
  together(&t, [](Turn* all[32]) {
    for (int l = 0; l < 32; ++l)
      for (int tile = 0; tile < 4; ++tile) {
        const auto at = [&](int i) { return static_cast<uint32_t>(all[tile * 8 + i]->row[l / 4]); };
        all[l]->r[tile] = at(l % 4 * 2) | at(l % 4 * 2 + 1) << 16;
      }
  });
}

void copy_async16(void* to, const void* from, bool there) {
  if ((reinterpret_cast<uintptr_t>(to) | (there ? reinterpret_cast<uintptr_t>(from) : 0)) % 16 != 0)
    fail("cp.async of 16 bytes that do not lie at a multiple of 16");
  fibers[self].copies.push_back({to, there ? from : nullptr, fibers[self].groups});
}

void copy_commit() { ++fibers[self].groups; }

void copy_wait(int left) {
  Fiber& f = fibers[self];
  size_t done = 0;
  for (; done < f.copies.size() && f.copies[done].group < f.groups - left; ++done) {
    const Fiber::Copy& c = f.copies[done];
    c.from ? static_cast<void>(std::memcpy(c.to, c.from, 16)) : static_cast<void>(std::memset(c.to, 0, 16));
  }
  f.copies.erase(f.copies.begin(), f.copies.begin() + static_cast<std::ptrdiff_t>(done));
}

}  // namespace emulated

using namespace emulated;

cudaError_t cudaGetDeviceCount(int* count) { *count = 1; return cudaSuccess; }
cudaError_t cudaSetDevice(int index) { return index == 0 ? cudaSuccess : cudaErrorUnknown; }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int) {
  *p = {};
  std::strcpy(p->name, "emulated");
  p->totalGlobalMem = kRegion;
  p->major = 8, p->multiProcessorCount = 2;
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  *free = kRegion - used, *total = kRegion;
  return cudaSuccess;
}
cudaError_t cudaMalloc(void** p, size_t bytes) {
  *p = allocate(bytes);
  return *p ? cudaSuccess : cudaErrorMemoryAllocation;
}
cudaError_t cudaFree(void* p) {
  std::lock_guard lock(device);
  const auto it = blocks.find(static_cast<char*>(p));
  if (it == blocks.end()) return p ? cudaErrorUnknown : cudaSuccess;
  {
    const Access open;
    std::memset(p, 0xfe, it->second - 4096);
    ::madvise(p, it->second, MADV_DONTNEED);
  }
  if (it->first + it->second == region + used) used -= it->second;
  blocks.erase(it);
  return cudaSuccess;
}
cudaError_t cudaMallocHost(void** p, size_t bytes) {
  *p = std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
  return *p ? cudaSuccess : cudaErrorMemoryAllocation;
}
cudaError_t cudaFreeHost(void* p) { std::free(p); return cudaSuccess; }
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t) {
  const Access open;
  std::memmove(to, from, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* p, int value, size_t bytes, cudaStream_t) {
  const Access open;
  std::memset(p, value, bytes);
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* s, unsigned) { *s = nullptr; return cudaSuccess; }
cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* e, unsigned) { *e = nullptr; return cudaSuccess; }
cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorString(cudaError_t e) { return e == cudaErrorMemoryAllocation ? "out of memory" : "emulated error"; }
