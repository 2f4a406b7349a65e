// SPDX-License-Identifier: Apache-2.0
#include "core/quant/calibration.h"

#include "core/base/signal.h"

namespace llmctl {
namespace {

// hessian += x^T x.
void add_moments(InputMoments& m, const View& x, std::vector<float>& chain, std::vector<std::byte>& work,
                 const kn::Exec& exec) {
  const int64_t k = x.cols(), tokens = x.rows();
  chain.resize(static_cast<size_t>(k * k));
  work.resize(static_cast<size_t>(kn::gemm_dw_workspace(x.dtype, tokens, tokens, k, k)));
  kn::GemmDw product{.dy = x, .x = x, .seq = tokens, .chain = View(chain.data(), DType::f32, {k, k})};
  product.pause = true;
  product.work = View(work.data(), DType::u8, {static_cast<int64_t>(work.size())});
  kn::run(product, exec);
  if (m.hessian.empty()) m.hessian.resize(static_cast<size_t>(k * k), 0.0);
  m.inputs = k;
  for (size_t i = 0; i < chain.size(); ++i) m.hessian[i] += static_cast<double>(chain[i]);
}

}  // namespace

std::vector<float> InputMoments::importance() const {
  std::vector<float> out(static_cast<size_t>(inputs));
  double mean = 0.0;
  for (int64_t i = 0; i < inputs; ++i) mean += hessian[static_cast<size_t>(i * inputs + i)];
  mean /= static_cast<double>(inputs);
  if (mean <= 0.0) return std::vector<float>(out.size(), 1.0f);
  for (int64_t i = 0; i < inputs; ++i)  // relative to the mean: the range of f32 is no question
    out[static_cast<size_t>(i)] = static_cast<float>(hessian[static_cast<size_t>(i * inputs + i)] / mean + 0.01);
  return out;
}

std::map<std::string, InputMoments> collect_moments(RowPass& pass, const TokenRows& rows,
                                                    const std::vector<std::string>& weights, const kn::Exec& exec) {
  std::map<std::string, InputMoments> moments;
  for (const std::string& name : weights) moments[name];
  std::vector<float> chain;
  std::vector<std::byte> work;
  const LinearObserver observe = [&](const WeightState& w, const View& x) {
    const auto it = moments.find(w.spec.name);
    if (it != moments.end()) add_moments(it->second, x, chain, work, exec);
  };
  for (const std::vector<int32_t>& row : rows) {
    stop_if_interrupted("quantize");
    pass.hidden(row, &observe);
  }
  return moments;
}

}  // namespace llmctl
