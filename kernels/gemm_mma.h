// SPDX-License-Identifier: Apache-2.0
// The products in bf16 on tensor cores: bodies of level `backend`, whose order is mma.sync's over blocks
// of 16 of the contraction, restarting at every span of a leaf and every sequence. An output depends on its
// row, its column and that order alone, never on the tile it falls in. Internal to kernels/*.cu.
#pragma once

#include "kernels/gemm.h"

namespace llmctl::kn {

// Whether the shapes suit: rows of 16-byte pieces.
bool mma_takes(const Gemm& g);
bool mma_takes(const GemmDw& g);
void mma_gemm(const Gemm& g, const Exec& ex);
void mma_gemm_dw(const GemmDw& g, const Exec& ex);

}  // namespace llmctl::kn
