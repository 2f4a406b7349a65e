// SPDX-License-Identifier: Apache-2.0
#include "safety/calibration.h"

#include <algorithm>
#include <cstdint>

#include "safety/elementary.h"

namespace llmctl {
namespace {

// Newton's method with halving, the procedure of Lin et al. 2007.
struct Platt {
  const std::vector<double>& z;
  const std::vector<char>& truth;
  double high = 1, low = 0;

  double loss(double slope, double offset) const {
    double sum = 0;
    for (size_t i = 0; i < z.size(); ++i) {
      const double u = slope * z[i] + offset;
      sum += elementary::softplus(u) - (truth[i] ? high : low) * u;
    }
    return sum;
  }

  // One damped Newton step; false when it no longer lowers the loss.
  bool improve(double& slope, double& offset, double& current) const {
    double ga = 0, gb = 0, haa = 1e-12, hab = 0, hbb = 1e-12;
    for (size_t i = 0; i < z.size(); ++i) {
      const double p = elementary::logistic(slope * z[i] + offset);
      const double d = p - (truth[i] ? high : low), w = p * (1.0 - p);
      ga += d * z[i];
      gb += d;
      haa += w * z[i] * z[i];
      hab += w * z[i];
      hbb += w;
    }
    const double determinant = haa * hbb - hab * hab;
    if (!(determinant > 0)) return false;
    const double da = (hbb * ga - hab * gb) / determinant, db = (haa * gb - hab * ga) / determinant;
    for (double length = 1; length > 1e-6; length *= 0.5) {
      const double next = loss(slope - length * da, offset - length * db);
      if (!(next < current - 1e-12)) continue;
      slope -= length * da;
      offset -= length * db;
      current = next;
      return true;
    }
    return false;
  }
};

}  // namespace

double Calibration::score(double margin) const {
  return elementary::logistic(slope * margin + offset);
}

Calibration calibrate(const std::vector<double>& margin, const std::vector<char>& truth) {
  const auto positives = std::count_if(truth.begin(), truth.end(), [](char t) { return t != 0; });
  const auto negatives = static_cast<int64_t>(truth.size()) - positives;
  Calibration out;
  if (positives < 3 || negatives < 3) return out;
  const double p = static_cast<double>(positives), n = static_cast<double>(negatives);
  const Platt platt{margin, truth, (p + 1) / (p + 2), 1 / (n + 2)};
  double current = platt.loss(out.slope, out.offset);
  for (int i = 0; i < 100 && platt.improve(out.slope, out.offset, current); ++i) {
  }
  return out.slope > 0 ? out : Calibration{};
}

}  // namespace llmctl
