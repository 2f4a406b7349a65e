// SPDX-License-Identifier: Apache-2.0
// Group-wise symmetric integer grids: which scale a group of weights gets, and the nearest point.
// Deterministic: a function of the arguments alone, for any number of threads.
#pragma once

#include <vector>

#include "core/io/compressed_tensors.h"
#include "kernels/exec.h"

namespace llmctl {

struct Grid {
  int bits = 8;           // 8: q in [-127,127]; 4: q in [-8,7]
  int64_t group = 128;    // columns that share a scale, a multiple of 32
  bool bf16_scale = false;  // scales are exact in bf16, so that a bf16 file holds them as they are
};

// The nearest point of the grid, ties to even; 0 when scale is 0.
int8_t nearest_level(const Grid& grid, float w, float scale);

// The scale of n weights: at 8 bits amax/127; at 4 bits the one of a fixed list around amax/7.5 with
// the least sum of importance[i] * (w[i] - q[i] scale)^2 (importance null: all 1; the first of equals).
float choose_scale(const Grid& grid, const float* w, const float* importance, int64_t n);

// Every weight to its nearest level: what there is without calibration. w (N,K) f32;
// importance (K) or empty.
QuantMatrix quantise_nearest(const View& w, const Grid& grid, const std::vector<float>& importance,
                             const kn::Exec& exec);

// out (N,K) f32 = q * scale.
void dequantise(const QuantMatrix& m, const View& out, const kn::Exec& exec);

}  // namespace llmctl
