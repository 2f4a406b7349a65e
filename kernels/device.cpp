// SPDX-License-Identifier: Apache-2.0
#include "kernels/device.h"

#include <cstdlib>
#include <cstring>

#include "kernels/device_cuda.h"
#include "kernels/error.h"

namespace llmctl::kn {
namespace {

bool is_cuda(const Device& device) { return device.kind == DeviceKind::cuda; }

void* host_allocate(int64_t bytes) {
  const auto size = (static_cast<size_t>(bytes) + 255) / 256 * 256;
  void* p = std::aligned_alloc(256, size ? size : 256);
  check(p != nullptr, Code::memory, "[memory] ", bytes, " bytes are not there");
  std::memset(p, 0, size);
  return p;
}

}  // namespace

int device_count() {
  if constexpr (kHaveCuda) return cuda::device_count();
  return 0;
}

DeviceInfo device_info(int index) {
  if constexpr (kHaveCuda) return cuda::device_info(index);
  return {};
}

void use_device(const Exec& ex) {
  if constexpr (kHaveCuda)
    if (is_cuda(ex.device)) cuda::use_device(ex.device.index);
}

void* new_stream(const Device& device) {
  if constexpr (kHaveCuda)
    if (is_cuda(device)) return cuda::new_stream(device.index);
  return nullptr;
}

void end_stream(const Device& device, void* stream) {
  if constexpr (kHaveCuda)
    if (is_cuda(device) && stream) cuda::end_stream(stream);
}

void* device_allocate(const Device& device, int64_t bytes) {
  if constexpr (kHaveCuda)
    if (is_cuda(device)) return cuda::allocate(device.index, bytes);
  return host_allocate(bytes);
}

void device_free(const Device& device, void* p) {
  if constexpr (kHaveCuda)
    if (is_cuda(device)) return cuda::free(p);
  std::free(p);
}

void* pinned_allocate(const Device& device, int64_t bytes) {
  if constexpr (kHaveCuda)
    if (is_cuda(device)) return cuda::pinned_allocate(bytes);
  return host_allocate(bytes);
}

void pinned_free(const Device& device, void* p) {
  if constexpr (kHaveCuda)
    if (is_cuda(device)) return cuda::pinned_free(p);
  std::free(p);
}

void upload(const Exec& ex, void* to, const void* from, int64_t bytes) {
  if (bytes == 0 || to == from) return;
  if constexpr (kHaveCuda)
    if (is_cuda(ex.device)) return cuda::upload(ex.stream, to, from, bytes);
  std::memcpy(to, from, static_cast<size_t>(bytes));
}

void download(const Exec& ex, void* to, const void* from, int64_t bytes) {
  if (bytes == 0 || to == from) return;
  if constexpr (kHaveCuda)
    if (is_cuda(ex.device)) return cuda::download(ex.stream, to, from, bytes);
  std::memcpy(to, from, static_cast<size_t>(bytes));
}

void wait(const Exec& ex) {
  if constexpr (kHaveCuda)
    if (is_cuda(ex.device)) cuda::wait(ex.stream);
}

void check_launched(const char* op) {
  if constexpr (kHaveCuda) cuda::check_launched(op);
}

}  // namespace llmctl::kn
