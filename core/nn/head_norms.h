// SPDX-License-Identifier: Apache-2.0
// Norms of heads (Qwen3) where the heads lie with several tensor-parallel ranks. A weight's gradient is one
// chain over the heads of all ranks, element by element (kernels/head_norm.h): each rank takes in the columns
// of its share of the elements from all of them, and makes the gradients of these. Bytes only move; the shares
// of the ranks add up to the whole, which elsewhere is zero (Weight::dealt).
#pragma once

#include "core/nn/context.h"
#include "kernels/head_norm.h"

namespace llmctl {

// Runs op, which is of this rank's heads. Collective where ctx.tensor has several ranks.
void head_norm_backward(Ctx& ctx, const kn::HeadNormBwd& op);

}  // namespace llmctl
