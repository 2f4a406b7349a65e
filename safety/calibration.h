// SPDX-License-Identifier: Apache-2.0
// Platt's scaling (Platt 1999): a margin z becomes the probability logistic(slope * z + offset).
//
// bits: any-isa
#pragma once

#include <vector>

namespace llmctl {

struct Calibration {
  double slope = 1.0, offset = 0.0;
  double threshold = 0.5;  // flagged when the calibrated score is at or above
  double score(double margin) const;
};

// Slope and offset of least cross-entropy on the pairs, with Platt's smoothed targets. The identity
// when a class has fewer than three members, or when margins rank the classes the wrong way round.
Calibration calibrate(const std::vector<double>& margin, const std::vector<char>& truth);

}  // namespace llmctl
