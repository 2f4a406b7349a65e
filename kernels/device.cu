// SPDX-License-Identifier: Apache-2.0
// Memory and streams through the CUDA runtime, which is linked in; the driver is found at run time, and
// a machine without one has no GPUs. Not yet run on a GPU.
#include <cuda_runtime.h>

#include <cstring>

#include "kernels/device_cuda.h"
#include "kernels/error.h"

namespace llmctl::kn::cuda {
namespace {

void check_cuda(cudaError_t error, const char* what) {
  check(error == cudaSuccess, Code::device, "[cuda] ", what, ": ", cudaGetErrorString(error));
}
cudaStream_t stream_of(void* stream) { return static_cast<cudaStream_t>(stream); }

}  // namespace

int device_count() {
  int n = 0;
  if (cudaGetDeviceCount(&n) == cudaSuccess) return n;
  cudaGetLastError();  // no driver, or one too old: no GPUs, and no error for the next call to find
  return 0;
}

DeviceInfo device_info(int index) {
  use_device(index);
  cudaDeviceProp p{};
  check_cuda(cudaGetDeviceProperties(&p, index), "cannot ask the device");
  size_t free = 0, total = 0;
  check_cuda(cudaMemGetInfo(&free, &total), "cannot ask for its memory");
  return {p.name, static_cast<int64_t>(total), static_cast<int64_t>(free), p.major, p.minor, p.multiProcessorCount};
}

void use_device(int index) { check_cuda(cudaSetDevice(index), "cannot use the device"); }

void* new_stream(int index) {
  use_device(index);
  cudaStream_t s = nullptr;
  check_cuda(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking), "cannot make a stream");
  return s;
}
void end_stream(void* stream) { cudaStreamDestroy(stream_of(stream)); }

void* allocate(int index, int64_t bytes) {
  use_device(index);
  void* p = nullptr;
  const cudaError_t error = cudaMalloc(&p, static_cast<size_t>(bytes > 0 ? bytes : 1));
  cudaGetLastError();
  check(error == cudaSuccess, Code::memory, "[cuda] ", bytes, " bytes are not there on the device: ",
        cudaGetErrorString(error));
  check_cuda(cudaMemsetAsync(p, 0, static_cast<size_t>(bytes), nullptr), "cannot clear memory");
  check_cuda(cudaStreamSynchronize(nullptr), "cannot clear memory");
  return p;
}
void free(void* p) { cudaFree(p); }

void* pinned_allocate(int64_t bytes) {
  void* p = nullptr;
  const cudaError_t error = cudaMallocHost(&p, static_cast<size_t>(bytes > 0 ? bytes : 1));
  cudaGetLastError();
  check(error == cudaSuccess, Code::memory, "[cuda] ", bytes, " bytes of pinned memory are not there: ",
        cudaGetErrorString(error));
  std::memset(p, 0, static_cast<size_t>(bytes));
  return p;
}
void pinned_free(void* p) { cudaFreeHost(p); }

void upload(void* stream, void* to, const void* from, int64_t bytes) {
  check_cuda(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyHostToDevice, stream_of(stream)),
             "cannot copy to the device");
}
void download(void* stream, void* to, const void* from, int64_t bytes) {
  check_cuda(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDeviceToHost, stream_of(stream)),
             "cannot copy from the device");
  wait(stream);
}
void wait(void* stream) { check_cuda(cudaStreamSynchronize(stream_of(stream)), "a kernel failed"); }

void check_launched(const char* op) {
  const cudaError_t error = cudaGetLastError();
  check(error == cudaSuccess, Code::device, "[", op, "] the CUDA launch failed: ", cudaGetErrorString(error));
}

}  // namespace llmctl::kn::cuda
