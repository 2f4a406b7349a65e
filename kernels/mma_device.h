// SPDX-License-Identifier: Apache-2.0
// Tensor cores and asynchronous copies of sm_80 and later, as named by the PTX ISA (mma.sync m16n8k16,
// ldmatrix, cp.async). Under the tests' emulator (tests/gpu/emulated) the same names are functions of it.
// Internal to kernels/*.cu.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace llmctl::kn {
namespace {

// Of lane l: A (16,16) bf16 rows l/4 and l/4+8, columns 2 (l%4) and +8, in the order (row, column): (0,0),
// (8,0), (0,8), (8,8); B (16,8) column l/4, rows 2 (l%4) and +8; C (16,8) f32 rows l/4 and +8, columns
// 2 (l%4), +1. Every pair is two neighbours along K of A and B, the lower one in the low half.
struct MmaA {
  uint32_t r[4];
};
struct MmaB {
  uint32_t r[2];
};

#ifdef LLMCTL_EMULATED_CUDA
__device__ inline void mma_bf16(float* c, const MmaA& a, const MmaB& b) { ::emulated::mma_bf16(c, a.r, b.r); }
__device__ inline void load_transposed(uint32_t* r, const void* row) { ::emulated::load_transposed(r, row); }
__device__ inline void copy_async16(void* to, const void* from, bool there) { ::emulated::copy_async16(to, from, there); }
__device__ inline void copy_commit() { ::emulated::copy_commit(); }
template <int kLeft>
__device__ inline void copy_wait() { ::emulated::copy_wait(kLeft); }
#define KN_DYNAMIC_SHARED(T, name) T* name = reinterpret_cast<T*>(::emulated::dynamic_shared)
#else
// c += A B.
__device__ inline void mma_bf16(float* c, const MmaA& a, const MmaB& b) {
  asm(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a.r[0]), "r"(a.r[1]), "r"(a.r[2]), "r"(a.r[3]), "r"(b.r[0]), "r"(b.r[1]));
}
__device__ inline uint32_t shared_address(const void* p) { return static_cast<uint32_t>(__cvta_generic_to_shared(p)); }
// Four 8 x 8 tiles of 16-bit elements: lane l names row l%8 of tile l/8; r[i] is what it gets of tile i,
// the elements (2 (l%4), l/4) and (2 (l%4) + 1, l/4).
__device__ inline void load_transposed(uint32_t* r, const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
// 16 bytes into shared memory, zeros where there is nothing to read (`from` is then not read).
__device__ inline void copy_async16(void* to, const void* from, bool there) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n"
               :
               : "r"(shared_address(to)), "l"(from), "r"(there ? 16 : 0)
               : "memory");
}
__device__ inline void copy_commit() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }
// Until no more than kLeft of this thread's groups are under way.
template <int kLeft>
__device__ inline void copy_wait() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kLeft) : "memory");
}
#define KN_DYNAMIC_SHARED(T, name)                      \
  extern __shared__ __align__(128) unsigned char kn_shared[]; \
  T* name = reinterpret_cast<T*>(kn_shared)
#endif

}  // namespace
}  // namespace llmctl::kn
