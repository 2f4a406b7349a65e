// SPDX-License-Identifier: Apache-2.0
// Measures of a binary classifier from scores and truths of equal length. Pure functions; the
// result does not depend on the order of the pairs except for rounding.
#pragma once

#include <cstdint>
#include <vector>

namespace llmctl {

// Area under the ROC curve by ranks, ties counted half (Mann-Whitney). -1 when one class is absent.
double auroc(const std::vector<double>& score, const std::vector<char>& truth);

// Expected calibration error in 15 bins of equal width: sum over bins of share * |mean score -
// share of positives| (Guo et al. 2017, for the positive class). 0 when empty.
double calibration_error(const std::vector<double>& score, const std::vector<char>& truth);

struct AtThreshold {
  int64_t true_positive = 0, false_positive = 0, false_negative = 0;
  double precision() const;  // 0 when nothing is flagged
  double recall() const;     // 0 when there are no positives
  double f1() const;
};
AtThreshold at_threshold(const std::vector<double>& score, const std::vector<char>& truth, double threshold);

// The threshold of greatest F1 (the higher one of equals); with precision > 0, the one of greatest
// recall whose precision is at least that, and when there is none the one of greatest precision.
// 0.5 when there are no positives.
double best_threshold(const std::vector<double>& score, const std::vector<char>& truth, double precision);

}  // namespace llmctl
