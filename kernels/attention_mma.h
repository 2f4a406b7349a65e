// SPDX-License-Identifier: Apache-2.0
// Attention in bf16 on tensor cores: bodies of level `backend`; the forward for prefill and decode alike.
// Internal to kernels/*.cu.
#pragma once

#include "kernels/attention_device.h"

namespace llmctl::kn {

// Whether there is a kernel for the head's size.
bool mma_takes(const AttnFwd& a);
bool mma_takes(const AttnBwd& a);
void mma_attention(const AttnFwd& a, const Exec& ex);
// dQ, and dK and dV of each query head; delta is there.
void mma_attention_backward(const BackwardArgs& b, cudaStream_t stream);

}  // namespace llmctl::kn
