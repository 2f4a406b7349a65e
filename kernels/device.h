// SPDX-License-Identifier: Apache-2.0
// Memory of devices and what moves between them and the host. For a CPU device these are malloc and
// memcpy, so that who plans memory says each thing once. A build without CUDA code has no GPUs.
//
// All take any thread; each thread that runs ops calls use_device once before. Work on a GPU is done in
// the order of exec.stream; what fails there is Error{device} at the next call that waits.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/exec.h"

namespace llmctl::kn {

// GPUs that this process can use: 0 without a driver or CUDA code.
int device_count();
struct DeviceInfo {
  std::string name;
  int64_t memory = 0, free = 0;  // bytes
  int major = 0, minor = 0;      // compute capability
  int processors = 0;
};
DeviceInfo device_info(int index);

// What `ex` names becomes the calling thread's device.
void use_device(const Exec& ex);
// For Exec::stream; null for a CPU.
void* new_stream(const Device& device);
void end_stream(const Device& device, void* stream);

// Zero-filled, aligned to 256 bytes. Error{memory} when it is not there.
void* device_allocate(const Device& device, int64_t bytes);
void device_free(const Device& device, void* p);
// Host memory that a GPU copies from and to without a detour, zero-filled.
void* pinned_allocate(const Device& device, int64_t bytes);
void pinned_free(const Device& device, void* p);

// Host to device, in the stream's order: `from` may change after the next wait.
void upload(const Exec& ex, void* to, const void* from, int64_t bytes);
// Device to host, after all that was launched before; returns when it is there.
void download(const Exec& ex, void* to, const void* from, int64_t bytes);
// Until everything launched is done.
void wait(const Exec& ex);

// Of the last launch: Error{device} when it was refused. The op door calls it.
void check_launched(const char* op);

// The host's bodies on the same pool: for what works on files and tables.
inline Exec on_host(const Exec& ex) {
  Exec host = ex;
  host.device = {};
  host.stream = nullptr;
  return host;
}

}  // namespace llmctl::kn
