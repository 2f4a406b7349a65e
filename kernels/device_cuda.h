// SPDX-License-Identifier: Apache-2.0
// The CUDA half of device.h, defined where the build has it (device.cu). Internal to kernels/.
#pragma once

#include "kernels/build.h"
#include "kernels/device.h"

namespace llmctl::kn::cuda {

int device_count();
DeviceInfo device_info(int index);
void use_device(int index);
void* new_stream(int index);
void end_stream(void* stream);
void* allocate(int index, int64_t bytes);
void free(void* p);
void* pinned_allocate(int64_t bytes);
void pinned_free(void* p);
void upload(void* stream, void* to, const void* from, int64_t bytes);
void download(void* stream, void* to, const void* from, int64_t bytes);
void wait(void* stream);
void check_launched(const char* op);

}  // namespace llmctl::kn::cuda
