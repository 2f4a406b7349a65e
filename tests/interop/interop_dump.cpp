// SPDX-License-Identifier: Apache-2.0
// What the interop scripts compare with PyTorch and transformers, as safetensors:
//
//   interop_dump logits MODEL BATCH OUT          logits and token losses of BATCH's first unit, by
//                                                the forward pass that the folder is served with
//   interop_dump train MODEL BATCH CONFIG OUT    gradients of step 0, then the weights after all of
//                                                BATCH's steps; losses, routers' aux losses and norms
//                                                in the metadata
//
// BATCH holds i32 tokens and targets (steps, units, rows, seq), targets -1 where none is asked for,
// and starts (steps, units, rows, documents), padded with -1. CONFIG is a training config.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <iostream>
#include <thread>

#include "core/models/score.h"
#include "core/train/trainer.h"

namespace llmctl {
namespace {

class FileBatches final : public BatchSource {
 public:
  explicit FileBatches(const fs::path& path) : file_(path) {
    for (const char* name : {"tokens", "targets", "starts"}) {
      const View v = file_.at(name);
      check(v.dtype == DType::i32 && v.rank == 4, Code::input, "[interop_dump] ", path.string(), ": ", name,
            " is not i32 (steps, units, rows, n)");
    }
  }
  int64_t steps() const { return file_.at("tokens").dim[0]; }
  int64_t tokens() const override { return file_.at("tokens").size(); }
  std::string digest() const override { return "interop"; }
  void read(int64_t step, int64_t unit, Batch& out) const override {
    const View shape = file_.at("tokens");
    out.rows = shape.dim[2];
    out.seq = shape.dim[3];
    out.tokens = unit_of("tokens", step, unit);
    out.targets = unit_of("targets", step, unit);
    const std::vector<int32_t> starts = unit_of("starts", step, unit);
    const int64_t documents = static_cast<int64_t>(starts.size()) / out.rows;
    out.doc_starts.assign(static_cast<size_t>(out.rows), {});
    for (size_t i = 0; i < starts.size(); ++i)
      if (starts[i] >= 0) out.doc_starts[i / static_cast<size_t>(documents)].push_back(starts[i]);
  }

 private:
  std::vector<int32_t> unit_of(const char* name, int64_t step, int64_t unit) const {
    const View v = file_.at(name);
    check(step < v.dim[0] && unit < v.dim[1], Code::input, "[interop_dump] ", name, " has no step ", step,
          ", unit ", unit);
    const int64_t size = v.dim[2] * v.dim[3];
    const int32_t* first = v.as<int32_t>() + (step * v.dim[1] + unit) * size;
    return {first, first + size};
  }
  SafeTensors file_;
};

// Tensors that outlive their writing.
struct Dump {
  std::vector<std::vector<float>> data;
  std::vector<NamedView> tensors;
  View add(const std::string& name, View shape) {
    data.emplace_back(static_cast<size_t>(shape.size()));
    shape.data = data.back().data();
    tensors.push_back({name, shape});
    return shape;
  }
};

int dump_logits(const fs::path& folder, const FileBatches& source, const fs::path& out, const kn::Exec& exec) {
  Batch b;
  source.read(0, 0, b);
  const auto model = load_model(folder, Purpose::inference, b.seq, exec);
  const int64_t tokens = b.rows * b.seq, vocab = model->spec().config.vocab;
  Scorer scorer(*model, tokens, exec);
  scorer.batch().clear();
  for (int64_t r = 0; r < b.rows; ++r) {
    const auto row = [&](const std::vector<int32_t>& all) {
      return std::span(all).subspan(static_cast<size_t>(r * b.seq), static_cast<size_t>(b.seq));
    };
    scorer.batch().add_row(row(b.tokens), row(b.targets), b.doc_starts[static_cast<size_t>(r)]);
  }
  Dump dump;
  const View losses = dump.add("losses", View(nullptr, DType::f32, {b.rows, b.seq}));
  std::memcpy(losses.data, scorer.losses().data, static_cast<size_t>(losses.bytes()));
  const View logits = dump.add("logits", View(nullptr, DType::f32, {b.rows, b.seq, vocab}));
  constexpr int64_t kRows = 64;  // what one call of the scorer may ask for
  for (int64_t first = 0; first < tokens; first += kRows) {
    std::vector<int32_t> rows;
    for (int64_t i = first; i < std::min(tokens, first + kRows); ++i) rows.push_back(static_cast<int32_t>(i));
    const View padded = scorer.logits(rows);
    for (size_t i = 0; i < rows.size(); ++i)
      std::memcpy(logits.as<float>() + rows[i] * vocab, padded.as<float>() + static_cast<int64_t>(i) * padded.cols(),
                  static_cast<size_t>(vocab) * 4);
  }
  save_safetensors(out, dump.tensors, {}, true);
  return 0;
}

// Every parameter's slice of `part` (master or grad) under prefix + its file name; fixed point at 2^40
// (kernels/fixed.h).
void add_all(Dump& dump, Model& model, const std::string& prefix, View WeightState::*part, double scale,
             const kn::Exec& exec) {
  for (WeightState& w : model.parameters().all())
    for (size_t i = 0; i < w.spec.params.size(); ++i) {
      const Param& p = w.spec.params[i];
      const View whole = w.param_rows(w.*part, i);
      std::vector<float> values(static_cast<size_t>(whole.size()));
      for (size_t k = 0; k < values.size(); ++k)
        values[k] = static_cast<float>(
            scale * (whole.dtype == DType::i64 ? static_cast<double>(whole.as<int64_t>()[k]) * 0x1p-40
                                               : static_cast<double>(whole.as<float>()[k])));
      const View out = dump.add(prefix + p.name, file_shape(p, w.spec.role, DType::f32));
      write_param(View(values.data(), DType::f32, {p.rows, p.cols}), p, DType::f32, out.data, exec);
    }
}

int dump_training(const fs::path& folder, const FileBatches& source, const fs::path& config_file, const fs::path& out,
                  const kn::Exec& exec) {
  TrainConfig config;
  fields_of(config).read(read_json(config_file), config_file.string());
  const DType compute = config.numerics.compute == "bf16" ? DType::bf16 : DType::f32;
  Trainer trainer(config, make_model_spec(read_json(folder / "config.json"), compute, folder.string()), exec);
  trainer.allocate();
  trainer.model().load(TensorStore(folder));
  Dump dump;
  StepResult first;
  const double scale = trainer.accumulate(source, 0, first);
  add_all(dump, trainer.model(), "grad.", &WeightState::grad, scale, exec);
  std::string losses, aux_losses, norms;
  for (int64_t step = 0; step < source.steps(); ++step) {
    const StepResult r = trainer.step(source, step);
    losses += fmt::format("{}{:.17g}", step ? " " : "", r.loss);
    aux_losses += fmt::format("{}{:.17g}", step ? " " : "", r.router.balance);
    norms += fmt::format("{}{:.17g}", step ? " " : "", r.grad_norm);
  }
  add_all(dump, trainer.model(), "weight.", &WeightState::master, 1.0, exec);
  save_safetensors(out, dump.tensors, {{"losses", losses}, {"aux_losses", aux_losses}, {"norms", norms}}, true);
  return 0;
}

int run(const std::vector<std::string>& args) {
  kn::ThreadPool pool(static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
  kn::Exec exec;
  exec.isa = kn::supported_isas().front();
  exec.pool = &pool;
  if (args.size() == 4 && args[0] == "logits") return dump_logits(args[1], FileBatches(args[2]), args[3], exec);
  if (args.size() == 5 && args[0] == "train")
    return dump_training(args[1], FileBatches(args[2]), args[3], args[4], exec);
  std::cerr << "interop_dump logits MODEL BATCH OUT | train MODEL BATCH CONFIG OUT\n";
  return 2;
}

}  // namespace
}  // namespace llmctl

int main(int argc, char** argv) {
  try {
    return llmctl::run({argv + 1, argv + argc});
  } catch (const std::exception& e) {
    std::cerr << "interop_dump: " << e.what() << '\n';
    return 70;
  }
}
