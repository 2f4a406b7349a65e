// SPDX-License-Identifier: Apache-2.0
// Muon against a second writing of it in f64, straight from the definition.
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>

#include "tests/core/tiny_model.h"

namespace llmctl {
namespace {

using test::Machine;

struct Matrix {
  int64_t rows = 0, cols = 0;
  std::vector<double> v;
  double& at(int64_t r, int64_t c) { return v[static_cast<size_t>(r * cols + c)]; }
  double at(int64_t r, int64_t c) const { return v[static_cast<size_t>(r * cols + c)]; }
};

Matrix zeros(int64_t rows, int64_t cols) { return {rows, cols, std::vector<double>(static_cast<size_t>(rows * cols))}; }

Matrix matrix_of(const View& view) {
  Matrix m = zeros(view.rows(), view.cols());
  for (int64_t i = 0; i < view.size(); ++i)
    m.v[static_cast<size_t>(i)] = view.dtype == DType::i64 ? static_cast<double>(view.as<int64_t>()[i]) * 0x1p-40
                                                           : static_cast<double>(view.as<float>()[i]);
  return m;
}

Matrix transposed(const Matrix& m) {
  Matrix t = zeros(m.cols, m.rows);
  for (int64_t r = 0; r < m.rows; ++r)
    for (int64_t c = 0; c < m.cols; ++c) t.at(c, r) = m.at(r, c);
  return t;
}

Matrix product(const Matrix& a, const Matrix& b) {
  Matrix y = zeros(a.rows, b.cols);
  for (int64_t i = 0; i < a.rows; ++i)
    for (int64_t k = 0; k < a.cols; ++k)
      for (int64_t j = 0; j < b.cols; ++j) y.at(i, j) += a.at(i, k) * b.at(k, j);
  return y;
}

Matrix sum(double a, const Matrix& x, double b, const Matrix& y) {
  Matrix s = x;
  for (size_t i = 0; i < s.v.size(); ++i) s.v[i] = a * x.v[i] + b * y.v[i];
  return s;
}

Matrix newton_schulz(Matrix x, int64_t steps) {
  if (x.rows > x.cols) return transposed(newton_schulz(transposed(x), steps));
  double square = 0;
  for (double e : x.v) square += e * e;
  for (double& e : x.v) e /= std::max(std::sqrt(square), 1e-7);
  for (int64_t i = 0; i < steps; ++i) {
    const Matrix a = product(x, transposed(x));
    const Matrix b = sum(-4.7750, a, 2.0315, product(a, a));
    x = sum(3.4445, x, 1, product(b, x));
  }
  return x;
}

// |got - want| / |want|, Frobenius.
double distance(const Matrix& got, const Matrix& want) {
  double d = 0, n = 0;
  for (size_t i = 0; i < want.v.size(); ++i) {
    d += (got.v[i] - want.v[i]) * (got.v[i] - want.v[i]);
    n += want.v[i] * want.v[i];
  }
  return std::sqrt(d / n);
}

// A random update in a fresh arena, orthogonalised; the bytes of the result times its factor.
std::vector<float> orthogonal(int64_t rows, int64_t cols, double size, int64_t steps, Machine& machine,
                              Matrix* start = nullptr) {
  Arena arena("muon");
  muon_scratch(arena, rows, cols);
  arena.allocate();
  const MuonScratch s = muon_scratch(arena, rows, cols);
  auto* u = s.update.as<float>();
  for (int64_t i = 0; i < s.update.size(); ++i) {
    const auto bits = kn::random_words({3, 1, 4}, static_cast<uint64_t>(i)).word[0];
    u[i] = static_cast<float>(size * (static_cast<double>(bits) * 0x1p-31 - 1.0));
  }
  if (start) *start = matrix_of(s.update);
  const float factor = orthogonalize(s, steps, machine.exec);
  std::vector<float> out(u, u + s.update.size());
  for (float& x : out) x *= factor;
  return out;
}

}  // namespace

TEST_CASE("an orthogonalised update is the definition's, on every machine with the same bits", "[muon]") {
  struct Case {
    int64_t rows, cols, steps;
    double size;
  };
  for (const Case& c : {Case{64, 64, 5, 1.0}, Case{160, 64, 5, 1e-4}, Case{64, 160, 5, 1e3}, Case{33, 17, 3, 1.0},
                        Case{1, 40, 5, 1.0}, Case{300, 7, 1, 1e-5}}) {
    INFO(c.rows << " x " << c.cols);
    Machine two(2);
    Matrix start;
    const std::vector<float> got = orthogonal(c.rows, c.cols, c.size, c.steps, two, &start);
    const Matrix want = newton_schulz(start, c.steps), ours{c.rows, c.cols, {got.begin(), got.end()}};
    CHECK(distance(ours, want) < 3e-6);
    if (c.steps == 5) {  // singular values near 1: the mean of their squares on the short side
      double square = 0;
      for (float x : got) square += static_cast<double>(x) * static_cast<double>(x);
      const double mean = square / static_cast<double>(std::min(c.rows, c.cols));
      CHECK(mean > 0.45);
      CHECK(mean < 1.5);
    }
    for (kn::Isa isa : kn::supported_isas())
      for (int threads : {1, 3}) {
        INFO(kn::name_of(isa) << " " << threads << " threads");
        Machine machine(threads, isa);
        CHECK(orthogonal(c.rows, c.cols, c.size, c.steps, machine) == got);
      }
  }
}

TEST_CASE("an update of zeros stays zero", "[muon]") {
  Machine machine;
  for (float x : orthogonal(8, 20, 0.0, 5, machine)) CHECK(x == 0.0f);
}

TEST_CASE("the factors of the learning rate are torch.optim.Muon's", "[muon]") {
  CHECK(adjusted_rate("original", 64, 256) == 1.0);
  CHECK(adjusted_rate("original", 256, 64) == 2.0);
  CHECK(adjusted_rate("match_rms_adamw", 100, 64) == 2.0);
  CHECK(adjusted_rate("match_rms_adamw", 64, 100) == 2.0);
}

// Two steps of a model: hidden matrices by the reference above, all else as AdamW leaves it.
TEST_CASE("Muon's steps of a model are the reference's, and its other tensors are AdamW's", "[muon]") {
  for (const Json& hf : {test::tiny_llama(4), test::tiny_gpt2(1)})
    for (const char* adjust : {"match_rms_adamw", "original"}) {
      INFO(hf["architectures"].dump() << " " << adjust);
      TrainConfig config = test::tiny_config("f32");
      config.optimizer.clip = 0.05;  // bites
      config.optimizer.adjust_lr_fn = adjust;
      config.optimizer.matrix_learning_rate = adjust == std::string("original") ? 0.02 : 0;
      TrainConfig with_muon = config;
      with_muon.optimizer.name = "muon";
      Machine machine;
      const test::CountedTokens source(config.unit.sequences, config.unit.seq_len, 131);
      Trainer adamw(config, test::tiny_spec(hf, config), machine.exec);
      Trainer muon(with_muon, test::tiny_spec(hf, config), machine.exec);
      for (Trainer* t : {&adamw, &muon}) t->allocate(), t->model().initialise(1);
      std::vector<Matrix> weights, momenta;
      for (int64_t step = 0; step < 2; ++step) {
        StepResult at;
        std::vector<WeightState>& all = muon.model().parameters().all();
        if (step == 0)
          for (WeightState& w : all)
            for (size_t i = 0; w.muon && i < w.spec.params.size(); ++i) {
              weights.push_back(matrix_of(w.param_rows(w.master, i)));
              momenta.push_back(zeros(weights.back().rows, weights.back().cols));
            }
        CHECK(weights.size() == (hf.contains("n_embd") ? 8 : 14));
        const double scale = muon.accumulate(source, step, at);
        std::vector<Matrix> grads;
        for (WeightState& w : all)
          for (size_t i = 0; w.muon && i < w.spec.params.size(); ++i) grads.push_back(matrix_of(w.param_rows(w.grad, i)));
        const UpdateResult u = muon.optimizer().update(with_muon, step, scale, machine.exec);
        REQUIRE(u.grad_norm > config.optimizer.clip);
        const double clip = config.optimizer.clip / (u.grad_norm + 1e-6);
        OptimizerConfig matrices = with_muon.optimizer;
        if (matrices.matrix_learning_rate > 0) matrices.learning_rate = matrices.matrix_learning_rate;
        const double lr = learning_rate_at(matrices, config.schedule, step);
        for (size_t i = 0; i < grads.size(); ++i) {
          momenta[i] = sum(0.95, momenta[i], 0.05 * scale * clip, grads[i]);
          const Matrix o = newton_schulz(sum(0.95, momenta[i], 0.05 * scale * clip, grads[i]), 5);
          const auto rows = static_cast<double>(o.rows), cols = static_cast<double>(o.cols);
          const double factor = matrices.matrix_learning_rate > 0 ? std::sqrt(std::max(1.0, rows / cols))
                                                                  : 0.2 * std::sqrt(std::max(rows, cols));
          weights[i] = sum(1 - lr * 0.1, weights[i], -lr * factor, o);
        }
        size_t i = 0;
        for (WeightState& w : all)
          for (size_t p = 0; w.muon && p < w.spec.params.size(); ++p, ++i) {
            INFO(w.spec.params[p].name << " step " << step);
            CHECK(distance(matrix_of(w.param_rows(w.master, p)), weights[i]) < 1e-5);
            CHECK(distance(matrix_of(w.param_rows(w.m, p)), momenta[i]) < 1e-5);
            CHECK(!w.v);
          }
        if (step > 0) continue;  // from here the two see other gradients
        adamw.step(source, step);
        for (WeightState& w : all) {
          if (w.muon) continue;
          const WeightState& other = adamw.model().parameters().at(w.spec.name);
          INFO(w.spec.name);
          CHECK(std::memcmp(w.master.data, other.master.data, static_cast<size_t>(w.master.bytes())) == 0);
        }
      }
    }
}

}  // namespace llmctl
