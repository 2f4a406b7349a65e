// SPDX-License-Identifier: Apache-2.0
// Enough of CUDA to run kernels/*.cu on a CPU, for tests: every thread of a block is a fiber, blocks run
// one after another, and device memory cannot be touched while no kernel runs. What it shows is the
// arithmetic, the indexing, the barriers and which memory is whose; what it cannot show is what the
// hardware adds: races between blocks, the tensor cores' own rounding, speed.
//
// A kernel that waits for a thread that will not come, a shuffle that names a lane that has left, and a
// host access to device memory end the program with one line. Shared memory is poisoned before each
// block. The order in which threads run is LLMCTL_EMULATED_ORDER: forward (default), reverse, shuffled.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __shared__ static __attribute__((section("emulated_shared")))
#define LLMCTL_EMULATED_CUDA 1

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};

// ------------------------------------------------------------------ the host's half
enum cudaError_t { cudaSuccess = 0, cudaErrorMemoryAllocation = 2, cudaErrorUnknown = 999 };
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3, cudaMemcpyDefault = 4 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
enum { cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2 };
using cudaStream_t = struct EmulatedStream*;
using cudaEvent_t = struct EmulatedEvent*;
struct cudaDeviceProp {
  char name[256];
  size_t totalGlobalMem;
  int major, minor, multiProcessorCount;
};
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaSetDevice(int index);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int index);
cudaError_t cudaMemGetInfo(size_t* free, size_t* total);
cudaError_t cudaMalloc(void** p, size_t bytes);
cudaError_t cudaFree(void* p);
cudaError_t cudaMallocHost(void** p, size_t bytes);
cudaError_t cudaFreeHost(void* p);
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemsetAsync(void* p, int value, size_t bytes, cudaStream_t stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* s, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t s);
cudaError_t cudaStreamSynchronize(cudaStream_t s);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* e, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t e);
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s);
cudaError_t cudaEventSynchronize(cudaEvent_t e);
cudaError_t cudaGetLastError();
const char* cudaGetErrorString(cudaError_t e);
template <class F>
inline cudaError_t cudaFuncSetAttribute(F*, cudaFuncAttribute, int) {
  return cudaSuccess;
}

// ------------------------------------------------------------------ the device's half
namespace emulated {

using Body = void (*)(const void* context);
void run_grid(dim3 grid, dim3 block, size_t shared, Body body, const void* context);
template <class F>
inline void launch(dim3 grid, dim3 block, size_t shared, cudaStream_t, const F& f) {
  run_grid(grid, block, shared, [](const void* c) { (*static_cast<const F*>(c))(); }, &f);
}

extern thread_local dim3 thread_index, block_index, block_size, grid_size;
extern unsigned char dynamic_shared[];

void block_barrier();
// Exchanges 8 bytes among the lanes of a warp named by mask: what `source` (a lane) gave.
uint64_t exchange(uint32_t mask, uint64_t value, int source);
uint32_t ballot(uint32_t mask, bool vote);
int lane();
// Of kernels/mma_device.h. Sums of a product of 16 x 16 and 16 x 8 are made in fp64 and rounded once; a
// copy's bytes are there after the wait and not before.
void mma_bf16(float* c, const uint32_t* a, const uint32_t* b);
void load_transposed(uint32_t* r, const void* row);
void copy_async16(void* to, const void* from, bool there);
void copy_commit();
void copy_wait(int left);

template <class T>
inline T shuffle(uint32_t mask, T value, int source) {
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  bits = exchange(mask, bits, source);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace emulated

#define threadIdx (::emulated::thread_index)
#define blockIdx (::emulated::block_index)
#define blockDim (::emulated::block_size)
#define gridDim (::emulated::grid_size)

inline void __syncthreads() { ::emulated::block_barrier(); }
inline void __syncwarp(uint32_t mask = 0xffffffffu) { ::emulated::exchange(mask, 0, ::emulated::lane()); }
template <class T>
inline T __shfl_sync(uint32_t mask, T v, int source, int width = 32) {
  const int lane = ::emulated::lane();
  return ::emulated::shuffle(mask, v, lane / width * width + (source & (width - 1)));
}
template <class T>
inline T __shfl_xor_sync(uint32_t mask, T v, int by, int width = 32) {
  const int lane = ::emulated::lane(), other = lane ^ by;
  return ::emulated::shuffle(mask, v, other < lane / width * width + width ? other : lane);
}
template <class T>
inline T __shfl_down_sync(uint32_t mask, T v, int by, int width = 32) {
  const int lane = ::emulated::lane(), other = lane + by;
  return ::emulated::shuffle(mask, v, other < lane / width * width + width ? other : lane);
}
template <class T>
inline T __shfl_up_sync(uint32_t mask, T v, int by, int width = 32) {
  const int lane = ::emulated::lane(), other = lane - by;
  return ::emulated::shuffle(mask, v, other >= lane / width * width ? other : lane);
}
inline uint32_t __ballot_sync(uint32_t mask, bool vote) { return ::emulated::ballot(mask, vote); }

inline float __uint_as_float(uint32_t b) { float f; std::memcpy(&f, &b, 4); return f; }
inline uint32_t __float_as_uint(float f) { uint32_t b; std::memcpy(&b, &f, 4); return b; }
inline int __float2int_rn(float f) { return static_cast<int>(std::nearbyintf(f)); }
inline int32_t atomicExch(int32_t* p, int32_t v) { const int32_t was = *p; *p = v; return was; }
inline unsigned long long atomicAdd(unsigned long long* p, unsigned long long v) { const auto was = *p; *p += v; return was; }
using std::fabs;
