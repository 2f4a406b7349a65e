// SPDX-License-Identifier: Apache-2.0
#include "safety/measures.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace llmctl {
namespace {

// Indices by falling score; equal scores keep their order.
std::vector<size_t> ranked(const std::vector<double>& score) {
  std::vector<size_t> order(score.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return score[a] > score[b]; });
  return order;
}

double ratio(int64_t part, int64_t whole) {
  return whole ? static_cast<double>(part) / static_cast<double>(whole) : 0.0;
}

}  // namespace

double auroc(const std::vector<double>& score, const std::vector<char>& truth) {
  const auto order = ranked(score);
  int64_t positives = 0, negatives = 0, twice_area = 0;
  for (size_t i = 0; i < order.size();) {  // one group of equal scores at a time
    int64_t group_positives = 0, group_negatives = 0;
    const double value = score[order[i]];
    for (; i < order.size() && score[order[i]] == value; ++i)
      ++(truth[order[i]] ? group_positives : group_negatives);
    twice_area += group_negatives * (2 * positives + group_positives);
    positives += group_positives;
    negatives += group_negatives;
  }
  if (!positives || !negatives) return -1.0;
  return ratio(twice_area, 2 * positives * negatives);
}

double calibration_error(const std::vector<double>& score, const std::vector<char>& truth) {
  constexpr int kBins = 15;
  double sum[kBins] = {};
  int64_t count[kBins] = {}, positives[kBins] = {};
  for (size_t i = 0; i < score.size(); ++i) {
    const int bin = std::clamp(static_cast<int>(score[i] * kBins), 0, kBins - 1);
    sum[bin] += score[i];
    ++count[bin];
    positives[bin] += truth[i] ? 1 : 0;
  }
  double error = 0.0;
  for (int b = 0; b < kBins; ++b) error += std::fabs(sum[b] - static_cast<double>(positives[b]));
  return score.empty() ? 0.0 : error / static_cast<double>(score.size());
}

double AtThreshold::precision() const {
  return ratio(true_positive, true_positive + false_positive);
}
double AtThreshold::recall() const {
  return ratio(true_positive, true_positive + false_negative);
}
double AtThreshold::f1() const {
  return ratio(2 * true_positive, 2 * true_positive + false_positive + false_negative);
}

AtThreshold at_threshold(const std::vector<double>& score, const std::vector<char>& truth, double threshold) {
  AtThreshold out;
  for (size_t i = 0; i < score.size(); ++i) {
    const bool flagged = score[i] >= threshold;
    if (flagged && truth[i]) ++out.true_positive;
    if (flagged && !truth[i]) ++out.false_positive;
    if (!flagged && truth[i]) ++out.false_negative;
  }
  return out;
}

double best_threshold(const std::vector<double>& score, const std::vector<char>& truth, double precision) {
  const auto order = ranked(score);
  AtThreshold at;
  at.false_negative = std::count_if(truth.begin(), truth.end(), [](char t) { return t != 0; });
  if (!at.false_negative) return 0.5;
  double best = 0.5, best_value = -1.0;
  for (size_t i = 0; i < order.size(); ++i) {
    const bool positive = truth[order[i]] != 0;
    ++(positive ? at.true_positive : at.false_positive);
    at.false_negative -= positive ? 1 : 0;
    const double here = score[order[i]];
    const bool last = i + 1 == order.size();
    if (!last && score[order[i + 1]] == here) continue;
    // 1 + recall ranks every threshold that is precise enough above all that are not.
    const double value = precision <= 0                ? at.f1()
                         : at.precision() >= precision ? 1.0 + at.recall()
                                                       : at.precision();
    if (value > best_value) {
      best_value = value;
      best = last ? here : here + (score[order[i + 1]] - here) * 0.5;  // half way to the next score
    }
  }
  return best;
}

}  // namespace llmctl
