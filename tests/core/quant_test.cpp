// SPDX-License-Identifier: Apache-2.0
#include "core/quant/quantize.h"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>

#include "core/quant/compare.h"
#include "core/quant/gptq.h"
#include "kernels/random.h"
#include "tests/scratch.h"

using namespace llmctl;

namespace {

struct Machine {
  kn::ThreadPool pool;
  kn::Exec exec;
  explicit Machine(int threads = 2) : pool(threads) {
    exec.isa = kn::supported_isas().front();
    exec.pool = &pool;
  }
};

Json small_llama() {
  return {{"architectures", {"LlamaForCausalLM"}}, {"model_type", "llama"},       {"hidden_size", 64},
          {"intermediate_size", 160},              {"num_hidden_layers", 2},      {"num_attention_heads", 4},
          {"num_key_value_heads", 2},              {"vocab_size", 97},            {"max_position_embeddings", 64},
          {"rms_norm_eps", 1e-5},                  {"rope_theta", 10000.0},       {"hidden_act", "silu"},
          {"tie_word_embeddings", false}};
}

// A random model whose logits spread: its predictions are far from uniform.
void save_model(const fs::path& folder, DType compute, const Json& hf, const kn::Exec& exec) {
  Model model(make_model_spec(hf, compute, "test"), Purpose::training, 64, exec);
  model.allocate();
  model.initialise(7);
  for (WeightState& w : model.parameters().all())
    if (w.spec.role != Role::vector)
      for (int64_t i = 0; i < w.master.size(); ++i) w.master.as<float>()[i] *= 6.0f;
  model.parameters().refresh(exec);
  model.save(folder);
}

TokenRows random_rows(int count, int length) {
  TokenRows rows(static_cast<size_t>(count));
  for (int r = 0; r < count; ++r)
    for (int i = 0; i < length; ++i)
      rows[static_cast<size_t>(r)].push_back(
          static_cast<int32_t>(kn::random_below({3, 0, static_cast<uint32_t>(r)}, static_cast<uint64_t>(i), 97)));
  return rows;
}

QuantizeResult quantise(const fs::path& source, const fs::path& out, const QuantizeOptions& options,
                        const kn::Exec& exec) {
  const auto model = load_model(source, Purpose::inference, 0, exec);
  return quantise_folder(source, *model, out, options, exec);
}

Comparison compare(const fs::path& a, const fs::path& b, const TokenRows& rows, const kn::Exec& exec) {
  const auto before = load_model(a, Purpose::inference, 0, exec), after = load_model(b, Purpose::inference, 0, exec);
  return compare_models(*before, *after, rows, exec);
}

std::vector<float> random_matrix(int64_t n, uint32_t stream) {
  std::vector<float> w(static_cast<size_t>(n));
  for (size_t i = 0; i < w.size(); ++i) w[i] = static_cast<float>(kn::random_normal({5, 0, stream}, i));
  return w;
}

// sum over outputs of e H e^T, e = W - Q: what GPTQ makes small.
double output_error(const std::vector<float>& w, const QuantMatrix& m, const std::vector<double>& h, const kn::Exec& exec) {
  std::vector<float> back(w.size());
  dequantise(m, View(back.data(), DType::f32, {m.rows, m.cols}), exec);
  double sum = 0;
  for (int64_t r = 0; r < m.rows; ++r)
    for (int64_t i = 0; i < m.cols; ++i)
      for (int64_t j = 0; j < m.cols; ++j)
        sum += (w[static_cast<size_t>(r * m.cols + i)] - back[static_cast<size_t>(r * m.cols + i)]) *
               h[static_cast<size_t>(i * m.cols + j)] *
               (w[static_cast<size_t>(r * m.cols + j)] - back[static_cast<size_t>(r * m.cols + j)]);
  return sum;
}

// X^T X of correlated inputs.
std::vector<double> correlated_moments(int64_t k) {
  std::vector<double> h(static_cast<size_t>(k * k), 0.0);
  std::vector<double> x(static_cast<size_t>(k));
  for (uint64_t t = 0; t < 300; ++t) {
    double drift = 0;
    for (int64_t i = 0; i < k; ++i) {
      drift = 0.9 * drift + kn::random_normal({9, 0, 0}, t * 1000 + static_cast<uint64_t>(i));
      x[static_cast<size_t>(i)] = drift;
    }
    for (int64_t i = 0; i < k; ++i)
      for (int64_t j = 0; j < k; ++j)
        h[static_cast<size_t>(i * k + j)] += x[static_cast<size_t>(i)] * x[static_cast<size_t>(j)];
  }
  return h;
}

}  // namespace

TEST_CASE("levels stay on the grid and are the nearest") {
  const Grid eight{8, 32, false}, four{4, 32, false};
  CHECK(nearest_level(eight, 1e9f, 1.0f) == 127);
  CHECK(nearest_level(eight, -1e9f, 1.0f) == -127);
  CHECK(nearest_level(four, -1e9f, 1.0f) == -8);
  CHECK(nearest_level(four, 2.5f, 1.0f) == 2);  // ties to even
  CHECK(nearest_level(four, 1.0f, 0.0f) == 0);
  const std::vector<float> zeros(32, 0.0f);
  CHECK(choose_scale(four, zeros.data(), nullptr, 32) == 0.0f);
}

TEST_CASE("bf16 scales are exact in bf16 and keep the largest weight inside") {
  Machine machine;
  const std::vector<float> w = random_matrix(4 * 96, 1);
  const View view(const_cast<float*>(w.data()), DType::f32, {4, 96});
  const QuantMatrix m = quantise_nearest(view, {8, 32, true}, {}, machine.exec);
  for (float s : m.scale) {
    uint32_t bits;
    std::memcpy(&bits, &s, 4);
    CHECK((bits & 0xffff) == 0);
  }
  for (size_t i = 0; i < w.size(); ++i)
    CHECK(std::fabs(w[i] - m.q[i] * m.scale[i / 96 * 3 + i % 96 / 32]) <= 0.5001f * m.scale[i / 96 * 3 + i % 96 / 32]);
}

TEST_CASE("the factor is the inverse's: U^T U (H + damping) = 1") {
  Machine machine;
  const int64_t k = 40;
  const std::vector<double> h = correlated_moments(k);
  const std::vector<double> u = inverse_factor(h, k, machine.exec);
  double mean = 0;
  for (int64_t i = 0; i < k; ++i) mean += h[static_cast<size_t>(i * k + i)] / static_cast<double>(k);
  double worst = 0;
  for (int64_t i = 0; i < k; ++i)
    for (int64_t j = 0; j < k; ++j) {
      double sum = 0;  // row i of U^T U times column j of the damped H
      for (int64_t m = 0; m < k; ++m) {
        double inverse = 0;
        for (int64_t t = 0; t <= std::min(i, m); ++t)
          inverse += u[static_cast<size_t>(t * k + i)] * u[static_cast<size_t>(t * k + m)];
        sum += inverse * (h[static_cast<size_t>(m * k + j)] + (m == j ? 0.01 * mean : 0.0));
      }
      worst = std::max(worst, std::fabs(sum - (i == j ? 1.0 : 0.0)));
    }
  CHECK(worst < 1e-9);
}

TEST_CASE("GPTQ loses less of the output than the nearest levels, for any thread count the same") {
  Machine one(1), two(2);
  const int64_t n = 24, k = 96;
  std::vector<float> w = random_matrix(n * k, 2);
  const View view(w.data(), DType::f32, {n, k});
  const std::vector<double> h = correlated_moments(k);
  const std::vector<float> flat(static_cast<size_t>(k), 1.0f);
  const Grid grid{4, 32, false};
  const QuantMatrix nearest = quantise_nearest(view, grid, {}, one.exec);
  const QuantMatrix a = quantise_gptq(view, grid, inverse_factor(h, k, one.exec), flat, one.exec);
  const QuantMatrix b = quantise_gptq(view, grid, inverse_factor(h, k, two.exec), flat, two.exec);
  CHECK(a.q == b.q);
  CHECK(a.scale == b.scale);
  CHECK(output_error(w, a, h, one.exec) < 0.6 * output_error(w, nearest, h, one.exec));
}

TEST_CASE("moments that are not finite are refused, dead inputs are not") {
  Machine machine;
  std::vector<double> h(32 * 32, 0.0);
  CHECK(inverse_factor(h, 32, machine.exec).size() == h.size());
  h[0] = std::nan("");
  CHECK(code_of([&] { inverse_factor(h, 32, machine.exec); }) == Code::input);
}

TEST_CASE("a quantised folder loads, predicts nearly the same, and is as small as it says") {
  Machine machine;
  ScratchFolder folder;
  const DType compute = GENERATE(DType::f32, DType::bf16);
  const fs::path source = folder.make("source");
  save_model(source, compute, small_llama(), machine.exec);
  write_file(source / "tokenizer.json", "{}", true);
  const TokenRows rows = random_rows(6, 64);
  double int4_kld = 0;
  for (const auto& [bits, calibrated, most] : std::vector<std::tuple<int, bool, double>>{
           {8, false, 0.003}, {8, true, 0.003}, {4, false, 0.3}, {4, true, 0.3}}) {
    const fs::path out = folder.make(("out" + std::to_string(bits) + (calibrated ? "c" : "")).c_str());
    QuantizeOptions options{.bits = bits, .group = 32};
    if (calibrated) options.calibration = random_rows(24, 64);
    const QuantizeResult r = quantise(source, out, options, machine.exec);
    CHECK(r.quantised_weights == 2 * (64 * 128 + 64 * 64 + 2 * 160 * 64 + 160 * 64));
    CHECK(r.even_groups);
    CHECK(fs::exists(out / "tokenizer.json"));
    CHECK(fs::exists(out / "generation_config.json"));
    const Comparison c = compare(source, out, rows, machine.exec);
    INFO(bits << " bits, calibrated " << calibrated << ", kld " << c.kld << ", perplexity " << c.perplexity_before
              << " -> " << c.perplexity_after);
    CHECK(c.tokens == 6 * 63);
    CHECK(c.kld >= -1e-6);
    CHECK(c.kld < most);
    if (bits == 4 && !calibrated) int4_kld = c.kld;
    if (bits == 4 && calibrated) CHECK(c.kld < int4_kld);
  }
  CHECK(code_of([&] { quantise(folder.path / "out8", folder.make("again"), {}, machine.exec); }) == Code::unsupported);
}

TEST_CASE("the same folder, bit for bit, for any thread count") {
  Machine one(1), two(2);
  ScratchFolder folder;
  const fs::path source = folder.make("source"), a = folder.make("a"), b = folder.make("b");
  save_model(source, DType::bf16, small_llama(), one.exec);
  const QuantizeOptions options{.bits = 4, .calibration = random_rows(4, 64)};
  quantise(source, a, options, one.exec);
  quantise(source, b, options, two.exec);
  CHECK(read_file(a / "model.safetensors") == read_file(b / "model.safetensors"));
}

TEST_CASE("a model compared with itself has no divergence") {
  Machine machine;
  ScratchFolder folder;
  save_model(folder.make("m"), DType::f32, small_llama(), machine.exec);
  const Comparison c = compare(folder.path / "m", folder.path / "m", random_rows(2, 33), machine.exec);
  CHECK(c.kld == 0.0);
  CHECK(c.perplexity_before == c.perplexity_after);
  CHECK(c.same_top == 1.0);
  CHECK(code_of([&] { compare(folder.path / "m", folder.path / "m", {{5}}, machine.exec); }) == Code::input);
  CHECK(code_of([&] { compare(folder.path / "m", folder.path / "m", {{5, 97}}, machine.exec); }) == Code::input);
}

TEST_CASE("quantised folders that lie are refused") {
  Machine machine;
  ScratchFolder folder;
  const fs::path source = folder.make("source"), good = folder.make("good");
  save_model(source, DType::f32, small_llama(), machine.exec);
  quantise(source, good, {.bits = 4, .group = 32}, machine.exec);
  const TensorStore store(good);
  const std::string module = "model.layers.0.self_attn.q_proj";
  const auto refused = [&](const std::string& name, View lie) {
    const fs::path bad = folder.make("bad");
    std::vector<NamedView> tensors;
    for (const auto& [key, view] : store.tensors())
      if (key != name || lie.rank > 0) tensors.push_back({key, key == name ? lie : view});
    save_tensors(bad, tensors);
    write_file(bad / "config.json", read_file(good / "config.json"), true);
    return code_of([&] { load_model(bad, Purpose::inference, 0, machine.exec); });
  };
  const View scale = store.at(module + ".weight_scale"), packed = store.at(module + ".weight_packed");
  CHECK(refused("none of them", {}) == Code{0});
  CHECK(refused(module + ".weight_scale", View(scale.data, scale.dtype, {64, 1})) == Code::input);
  CHECK(refused(module + ".weight_scale", View(scale.data, scale.dtype, {32, 4})) == Code::input);
  CHECK(refused(module + ".weight_packed", View(packed.data, packed.dtype, {32, 8})) == Code::input);
  CHECK(refused(module + ".weight_packed", View(packed.data, DType::u32, {64, 8})) != Code{0});
  CHECK(refused(module + ".weight_scale", {}) == Code::input);  // packed weights without scales
}

TEST_CASE("a transposed architecture is refused by name") {
  Machine machine;
  ScratchFolder folder;
  const Json gpt2 = {{"architectures", {"GPT2LMHeadModel"}}, {"model_type", "gpt2"}, {"n_embd", 64}, {"n_layer", 1},
                     {"n_head", 2}, {"n_positions", 64}, {"vocab_size", 97}, {"activation_function", "gelu_new"}};
  save_model(folder.make("source"), DType::f32, gpt2, machine.exec);
  CHECK(code_of([&] { quantise(folder.path / "source", folder.make("out"), {}, machine.exec); }) == Code::unsupported);
}
