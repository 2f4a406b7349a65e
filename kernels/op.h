// SPDX-License-Identifier: Apache-2.0
// The life of an op. An op is an argument struct with named fields, `static constexpr const char*
// kName` and `void check() const` (throws Error on shapes that disagree). run() is the only door.
//
//   struct ScaleFwd { static constexpr const char* kName = "scale"; View x, y; float by;
//                     void check() const; };
//   KN_OP(ScaleFwd)                       // in the header: declares one body per target
//   void launch(KN_CPU, const ScaleFwd& a, const Exec& ex) { ... }   // scale.cpp
//   void launch(Cuda, const ScaleFwd& a, const Exec& ex) { ... }     // scale.cu
//
// Every kernels/*.cpp that has bodies is compiled once per instruction set with KN_CPU naming its
// tag (simd.h); check() and other once-only code goes under `#if KN_ONCE` in the same file. A
// missing body is a link error. Sources of ops keep everything else in an anonymous namespace and
// use no inline library code with external linkage (std::vector, std::string): such code compiled
// for AVX-512 could be the copy that the linker keeps for everybody.
#pragma once

#include "kernels/build.h"  // generated: constexpr bool kHaveCuda
#include "kernels/device.h"
#include "kernels/error.h"
#include "kernels/exec.h"
#include "kernels/view.h"

namespace llmctl::kn {

template <Isa isa>
struct Cpu {};
struct Cuda {};

#ifdef __aarch64__
#define KN_OP(Op)                                        \
  void launch(Cpu<Isa::portable>, const Op&, const Exec&); \
  void launch(Cpu<Isa::neon>, const Op&, const Exec&);     \
  void launch(Cuda, const Op&, const Exec&);
#else
#define KN_OP(Op)                                               \
  void launch(Cpu<Isa::portable>, const Op&, const Exec&);      \
  void launch(Cpu<Isa::avx2>, const Op&, const Exec&);          \
  void launch(Cpu<Isa::avx512>, const Op&, const Exec&);        \
  void launch(Cpu<Isa::avx512_bf16>, const Op&, const Exec&);   \
  void launch(Cuda, const Op&, const Exec&);
#endif

template <class Op>
inline void launch_here(const Op& op, const Exec& ex) {
  if (ex.device.kind == DeviceKind::cuda) {
    if constexpr (kHaveCuda) {
      launch(Cuda{}, op, ex);
      check_launched(Op::kName);
    } else {
      throw Error(Code::device, std::string("[") + Op::kName + "] this build has no CUDA code");
    }
    return;
  }
  switch (ex.isa) {
    case Isa::portable: return launch(Cpu<Isa::portable>{}, op, ex);
#ifdef __aarch64__
    case Isa::neon: return launch(Cpu<Isa::neon>{}, op, ex);
#else
    case Isa::avx2: return launch(Cpu<Isa::avx2>{}, op, ex);
    case Isa::avx512: return launch(Cpu<Isa::avx512>{}, op, ex);
    case Isa::avx512_bf16:
    case Isa::amx: return launch(Cpu<Isa::avx512_bf16>{}, op, ex);
#endif
  }
}

template <class Op>
inline void run(const Op& op, const Exec& ex) {
  op.check();
  if (ex.plan) return;
  if (!ex.trace) return launch_here(op, ex);
  ex.trace->begin(Op::kName);
  launch_here(op, ex);
  wait(ex);  // a kernel's own time, at the price of the overlap
  ex.trace->end(Op::kName);
}

}  // namespace llmctl::kn
