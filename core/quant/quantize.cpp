// SPDX-License-Identifier: Apache-2.0
#include "core/quant/quantize.h"

#include <algorithm>

#include "core/base/signal.h"
#include "core/quant/calibration.h"
#include "core/quant/gptq.h"

namespace llmctl {
namespace {

bool is_quantisable(const Weight& w) { return w.role == Role::linear && w.quantisable && w.name != "head"; }

std::string module_of(const Param& p) { return p.name.substr(0, p.name.rfind(".weight")); }

// "blocks.3." of "blocks.3.qkv": what is calibrated in one pass.
std::string block_of(const std::string& name) { return name.substr(0, name.rfind('.') + 1); }

class Quantizer {
 public:
  Quantizer(const TensorStore& store, Model& model, const QuantizeOptions& options, const kn::Exec& exec)
      : store_(store), model_(model), options_(options), exec_(exec) {
    grid_.bits = options.bits;
    grid_.group = options.group ? options.group : options.bits == 8 ? 128 : 32;
    for (WeightState& w : model.parameters().all()) {
      result_.weights += w.spec.rows() * w.spec.cols();
      if (is_quantisable(w.spec)) result_.matrices += static_cast<int64_t>(w.spec.params.size());
    }
    result_.group = grid_.group;
    if (options.calibration.empty()) return;
    size_t longest = 0;
    for (const auto& row : options.calibration) longest = std::max(longest, row.size());
    pass_ = std::make_unique<RowPass>(model, static_cast<int64_t>(longest), exec);
  }

  QuantizeResult run(const fs::path& out) {
    for (WeightState& w : model_.parameters().all()) {
      stop_if_interrupted("quantize");
      if (is_quantisable(w.spec))
        quantise(w);
      else
        for (const Param& p : w.spec.params) tensors_.push_back({p.name, find_tensor(store_, p)});
    }
    save_tensors(out, tensors_);
    return result_;
  }

 private:
  // Nothing for an expert that no token of the calibration text chose.
  const InputMoments* moments_of(const WeightState& w) {
    if (!pass_) return nullptr;
    const std::string block = block_of(w.spec.name);
    if (block != block_) {
      std::vector<std::string> names;
      for (const WeightState& other : model_.parameters().all())
        if (is_quantisable(other.spec) && block_of(other.spec.name) == block) names.push_back(other.spec.name);
      moments_ = collect_moments(*pass_, options_.calibration, names, exec_);
      block_ = block;
    }
    const InputMoments& found = moments_.at(w.spec.name);
    return found.inputs > 0 ? &found : nullptr;
  }

  void quantise(WeightState& w) {
    const int64_t k = w.spec.cols();
    const InputMoments* moments = moments_of(w);
    std::vector<double> factor;
    std::vector<float> importance;
    if (moments) {
      factor = inverse_factor(moments->hessian, k, exec_);
      importance = moments->importance();
    }
    std::vector<float> whole(static_cast<size_t>(w.spec.padded_rows * k), 0.0f);
    const View all(whole.data(), DType::f32, {w.spec.padded_rows, k});
    for (size_t i = 0; i < w.spec.params.size(); ++i) {
      const Param& p = w.spec.params[i];
      const View file = find_tensor(store_, p), memory = w.param_rows(all, i);
      read_param(file, p, memory, exec_);
      check_finite(p, memory);
      grid_.bf16_scale = file.dtype == DType::bf16;
      const QuantMatrix m = moments ? quantise_gptq(memory, grid_, factor, importance, exec_)
                                    : quantise_nearest(memory, grid_, importance, exec_);
      dequantise(m, memory, exec_);
      add(p, m);
    }
    model_.parameters().set_compute(exec_, w, all);
  }

  static void check_finite(const Param& p, const View& w) {
    const float* x = w.as<float>();
    const auto bad = std::find_if(x, x + w.size(), [](float v) { return !(v - v == 0.0f); });
    check(bad == x + w.size(), Code::input, "[quantize] ", p.name, " holds a value that is not finite");
  }

  void add(const Param& p, const QuantMatrix& m) {
    const size_t first = tensors_.size();
    append_quant_tensors(module_of(p), m, storage_, tensors_);
    for (size_t i = first; i < tensors_.size(); ++i) result_.quantised_bits += 8 * tensors_[i].view.bytes();
    result_.quantised_weights += m.rows * m.cols;
    result_.even_groups = result_.even_groups && m.cols % m.group == 0;
    ++done_;
    if (options_.progress) options_.progress(done_, result_.matrices);
  }

  const TensorStore& store_;
  Model& model_;
  const QuantizeOptions& options_;
  const kn::Exec& exec_;
  Grid grid_;
  QuantizeResult result_;
  int64_t done_ = 0;
  std::unique_ptr<RowPass> pass_;
  std::map<std::string, InputMoments> moments_;
  std::string block_;
  QuantStorage storage_;
  std::vector<NamedView> tensors_;
};

// Everything beside the weights: tokenizer, generation config, licence. Weights of any format stay.
void copy_other_files(const fs::path& source, const fs::path& out) {
  const std::vector<std::string> weights = {".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx"};
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(source))
    if (entry.is_regular_file()) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  for (const fs::path& file : files) {
    const std::string name = file.filename().string();
    const bool index = name.find(".index.json") != std::string::npos;
    if (name == "config.json" || index || std::count(weights.begin(), weights.end(), file.extension().string())) continue;
    std::error_code ec;
    fs::copy_file(file, out / name, ec);
    check(!ec, Code::io, "[quantize] ", name, ": cannot copy: ", ec.message());
  }
}

}  // namespace

QuantizeResult quantise_folder(const fs::path& source, Model& model, const fs::path& out,
                               const QuantizeOptions& options, const kn::Exec& exec) {
  check(options.bits == 8 || options.bits == 4, Code::usage, "[quantize] ", options.bits, " bits: 8 or 4");
  check(options.group >= 0 && options.group <= 65536 && options.group % 32 == 0, Code::usage, "[quantize] group size ",
        options.group, ": a multiple of 32 up to 65536");
  check(!model.spec().quant, Code::unsupported, "[quantize] ", source.string(),
        " is quantised already: start from the original");
  for (const WeightState& w : model.parameters().all())
    for (const Param& p : w.spec.params)
      check(!(is_quantisable(w.spec) && p.transposed), Code::unsupported, "[quantize] ", p.name,
            " is stored transposed: compressed-tensors has no layout for ", model.spec().architecture->name);
  const TensorStore store(source);
  const QuantizeResult result = Quantizer(store, model, options, exec).run(out);
  Json config = read_json(source / "config.json");
  QuantScheme scheme{.bits = options.bits, .group = result.group, .ignore = {"lm_head"}};
  for (const WeightState& w : model.parameters().all())
    if (w.spec.role == Role::linear && !w.spec.quantisable) scheme.ignore.push_back(module_of(w.spec.params[0]));
  config["quantization_config"] = write_quant_scheme(scheme);
  write_file(out / "config.json", json_text(config, true) + "\n", true);
  copy_other_files(source, out);
  return result;
}

}  // namespace llmctl
