// SPDX-License-Identifier: Apache-2.0
// The models that suites run: shapes that are stated, weights that are made up.
#include <fmt/format.h>

#include "cmd/bench.h"

namespace llmctl {
namespace {

struct Size {
  const char* name;
  int64_t hidden, layers, heads, kv_heads, intermediate, vocab;
  bool gpt2 = false, tied = false;
};
constexpr Size kSizes[] = {{"3M", 192, 6, 6, 3, 512, 2048},
                           {"10M", 320, 6, 5, 5, 864, 4096},
                           {"30M", 512, 8, 8, 8, 1408, 8192},
                           {"124M", 768, 12, 12, 12, 2048, 50257, false, true},
                           {"124M-gpt2", 768, 12, 12, 12, 3072, 50257, true, true},
                           {"350M", 1024, 24, 16, 16, 2816, 32000, false, true},
                           {"1.1B", 2048, 22, 32, 4, 5632, 32000},
                           {"1.5B", 2048, 28, 32, 32, 5632, 32000}};

Json config_of(const Size& s, bool tied) {
  if (s.gpt2)
    return {{"architectures", {"GPT2LMHeadModel"}},
            {"n_embd", s.hidden},
            {"n_layer", s.layers},
            {"n_head", s.heads},
            {"n_inner", s.intermediate},
            {"vocab_size", s.vocab},
            {"n_positions", 2048},
            {"tie_word_embeddings", tied}};
  return {{"architectures", {"LlamaForCausalLM"}},
          {"hidden_size", s.hidden},
          {"num_hidden_layers", s.layers},
          {"num_attention_heads", s.heads},
          {"num_key_value_heads", s.kv_heads},
          {"intermediate_size", s.intermediate},
          {"vocab_size", s.vocab},
          {"max_position_embeddings", 65536},  // costs nothing: positions are rotations
          {"tie_word_embeddings", tied}};
}

// Small and of both signs; by index alone, so that a shape always gets the same weights.
uint32_t mixed(uint64_t i) {
  i = (i + 0x9E3779B97F4A7C15u) * 0xBF58476D1CE4E5B9u;
  return static_cast<uint32_t>((i ^ i >> 31) * 0x94D049BB133111EBu >> 32);
}

// The panels that the host packs, brought to where the model lies.
void fill_quantised(WeightState& w, const kn::Exec& exec) {
  QuantMatrix m;
  m.rows = w.spec.padded_rows;
  m.cols = w.spec.cols();
  m.group = w.group;
  m.bits = w.bits;
  m.q.resize(static_cast<size_t>(m.rows * m.cols));
  const uint32_t range = w.bits == 8 ? 255 : 15;
  kn::parallel_for(exec, m.rows, [&](int64_t r) {
    for (int64_t i = r * m.cols; i < (r + 1) * m.cols; ++i)
      m.q[static_cast<size_t>(i)] = static_cast<int8_t>(
          static_cast<int>(mixed(static_cast<uint64_t>(i)) % range) - static_cast<int>(range / 2));
  });
  m.scale.assign(static_cast<size_t>(m.rows * ((m.cols + m.group - 1) / m.group)),
                 0.04f / static_cast<float>(range));
  const bool on_gpu = exec.device.kind != kn::DeviceKind::cpu;
  std::vector<std::byte> packed(on_gpu ? static_cast<size_t>(w.quant_panels.bytes()) : 0);
  View panels = w.quant_panels;
  if (on_gpu) panels.data = packed.data();
  kn::run(
      kn::PackQuantPanels{
          .q = m.q_view(), .scale = m.scale_view(), .dst = panels, .bits = w.bits, .group = w.group},
      kn::on_host(exec));
  kn::upload(exec, w.quant_panels.data, panels.data, panels.bytes());
  kn::wait(exec);
}

void fill(Parameters& parameters, WeightState& w, const kn::Exec& exec) {
  const int64_t rows = w.spec.padded_rows, cols = w.spec.cols();
  std::vector<float> values(static_cast<size_t>(rows * cols));
  const bool ones = w.spec.params.front().init == Init::ones;
  kn::parallel_for(exec, rows, [&](int64_t r) {
    for (auto i = static_cast<size_t>(r * cols); i < static_cast<size_t>((r + 1) * cols); ++i)
      values[i] = ones ? 1.0f : static_cast<float>(static_cast<int32_t>(mixed(i))) * (0.04f / 0x1p31f);
  });
  const View v = w.spec.role == Role::vector ? View(values.data(), DType::f32, {rows})
                                             : View(values.data(), DType::f32, {rows, cols});
  if (w.bits == 0) {
    if (exec.device.kind == kn::DeviceKind::cpu) return parameters.set_compute(exec, w, v);
    const Filled there(DType::f32, {rows, cols}, exec, values);
    View src = v;
    src.data = there.view.data;
    parameters.set_compute(exec, w, src);
    return kn::wait(exec);
  }
  fill_quantised(w, exec);
}

std::unique_ptr<Model> planned_model(const ModelSpec& spec, int bits, int64_t context, const kn::Exec& exec) {
  auto model = std::make_unique<Model>(spec, Purpose::inference, context, exec);
  const std::vector<WeightState>& weights = model->parameters().all();
  for (size_t i = 0; bits != 0 && i < weights.size(); ++i)
    if (weights[i].spec.role == Role::linear) model->parameters().quantise(static_cast<int>(i), bits, 64);
  return model;
}

}  // namespace

ModelSpec bench_spec(const std::string& size, DType compute, kn::Bf16Order order, Purpose purpose) {
  for (const Size& s : kSizes)
    if (size == s.name) {
      Json hf = config_of(s, s.tied && purpose == Purpose::training);
      hf["llmctl"] = {{"bf16_order", kn::name_of(order)}};
      return make_model_spec(hf, compute, "[bench] " + size);
    }
  throw Error(Code::bug, "[bench] no shape named " + size);
}

int64_t made_up_bytes(const ModelSpec& spec, int bits, int64_t context, const kn::Exec& exec) {
  return planned_model(spec, bits, context, exec)->bytes();
}

std::unique_ptr<Model> made_up_model(const ModelSpec& spec, int bits, int64_t context, const kn::Exec& exec) {
  auto model = planned_model(spec, bits, context, exec);
  model->allocate();
  for (WeightState& w : model->parameters().all()) fill(model->parameters(), w, exec);
  return model;
}

double decode_bytes(const Model& model) {
  double bytes = 0;
  for (const WeightState& w : model.parameters().all())
    if (w.spec.multiplies()) bytes += static_cast<double>(w.bits ? w.quant_panels.bytes() : w.panels.bytes());
  return bytes;
}

void MadeUpTokens::read(int64_t step, int64_t unit, Batch& out) const {
  out.rows = rows;
  out.seq = seq;
  out.tokens.clear();
  out.targets.clear();
  for (int64_t i = 0; i < rows * seq; ++i) {
    out.tokens.push_back(static_cast<int32_t>(mixed(static_cast<uint64_t>((step * 977 + unit) * rows * seq + i)) %
                                              static_cast<uint32_t>(vocab)));
    out.targets.push_back(static_cast<int32_t>((out.tokens.back() * 31 + 7) % vocab));
  }
  out.doc_starts.assign(static_cast<size_t>(rows), {0});
}

}  // namespace llmctl
