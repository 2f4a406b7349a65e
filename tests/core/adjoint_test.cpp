// SPDX-License-Identifier: Apache-2.0
// Every registered architecture: the gradient of what training minimises, tensor by tensor, against a
// difference of the forward pass along it. Architectures without a small model here fail.
#include <catch2/catch.hpp>
#include <cmath>
#include <map>

#include "tests/core/tiny_model.h"

namespace llmctl {
namespace {

const std::map<std::string, Json (*)(int)> kSmall = {{"LlamaForCausalLM", test::tiny_llama},
                                                     {"GPT2LMHeadModel", test::tiny_gpt2},
                                                     {"MixtralForCausalLM", test::tiny_mixtral},
                                                     {"Qwen2MoeForCausalLM", test::tiny_qwen2_moe},
                                                     {"Qwen3ForCausalLM", test::tiny_qwen3},
                                                     {"Qwen3MoeForCausalLM", test::tiny_qwen3_moe}};

double minimised(Trainer& trainer, const BatchSource& source, const kn::Exec& exec) {
  trainer.model().parameters().refresh(exec);
  StepResult r;
  trainer.accumulate(source, 0, r);
  const MoeConfig& moe = trainer.model().spec().config.moe;
  return r.loss + moe.balance_coef * r.router.balance + moe.z_coef * r.router.z;
}

std::vector<double> gradient_of(const WeightState& w, size_t i, double scale) {
  const View g = w.param_rows(w.grad, i);
  std::vector<double> out(static_cast<size_t>(g.size()));
  for (size_t k = 0; k < out.size(); ++k) out[k] = scale * 0x1p-40 * static_cast<double>(g.as<int64_t>()[k]);
  return out;
}

}  // namespace

TEST_CASE("the gradient of every architecture is the slope of its loss", "[adjoint]") {
  for (const Architecture& a : architectures()) {
    INFO(a.name);
    REQUIRE(kSmall.count(a.name) == 1);
    for (const auto& [leaves, chunks] : {std::pair{1, 1}, {4, 1}, {4, 4}}) {
      Json hf = kSmall.at(a.name)(leaves);
      if (chunks > 1 && hf.contains("num_experts_per_tok")) continue;
      INFO("leaves " << leaves << " chunks " << chunks);
      // Large, so that their slopes are seen.
      if (hf.contains("router_aux_loss_coef")) hf["router_aux_loss_coef"] = 0.5, hf["router_z_loss_coef"] = 0.1;
      hf["initializer_range"] = 0.1;
      test::Machine machine;
      TrainConfig config = test::tiny_config("f32");
      config.batch.units = 2, config.unit.seq_len = chunks > 1 ? 36 : 33, config.unit.chunks = chunks;
      const test::CountedTokens source(config.unit.sequences, config.unit.seq_len, 131);
      Trainer trainer(config, test::tiny_spec(hf, config), machine.exec);
      trainer.allocate();
      trainer.model().initialise(7);
      trainer.model().parameters().refresh(machine.exec);
      StepResult r;
      const double scale = trainer.accumulate(source, 0, r);
      std::vector<std::vector<double>> gradients;
      auto& weights = trainer.model().parameters().all();
      for (WeightState& w : weights)
        for (size_t i = 0; i < w.spec.params.size(); ++i) gradients.push_back(gradient_of(w, i, scale));
      size_t tensor = 0;
      for (WeightState& w : weights)
        for (size_t i = 0; i < w.spec.params.size(); ++i, ++tensor) {
          const std::vector<double>& g = gradients[tensor];
          double norm = 0;
          for (double x : g) norm += x * x;
          norm = std::sqrt(norm);
          INFO(w.spec.params[i].name << ": gradient norm " << norm);
          if (norm < 1e-3) continue;  // lost in the rounding of the loss (a key's bias has none at all)
          float* master = w.param_rows(w.master, i).as<float>();
          const std::vector<float> before(master, master + g.size());
          // Short: a token that changes its experts would be a jump. Sums of losses are good to some 1e-8.
          const double step = std::min(4e-5 / norm, 0.01);
          const auto moved = [&](double by) {
            for (size_t k = 0; k < g.size(); ++k) master[k] = static_cast<float>(before[k] + by * g[k] / norm);
            const double loss = minimised(trainer, source, machine.exec);
            std::copy(before.begin(), before.end(), master);
            return loss;
          };
          const double slope = (moved(step) - moved(-step)) / (2 * step);
          CHECK(slope == Approx(norm).epsilon(0.02));
        }
    }
  }
}

}  // namespace llmctl
