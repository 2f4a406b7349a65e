// SPDX-License-Identifier: Apache-2.0
// `llmctl quantize MODEL OUT --format int8|int4`: weights in groups, compressed-tensors layout.
#include <fmt/format.h>

#include <chrono>

#include "cmd/commands.h"
#include "core/quant/compare.h"
#include "core/quant/quantize.h"
#include "safety/evaluation_text.h"

namespace llmctl {
namespace {

struct QuantizeFlags {
  std::string model, out, format, field = "text";
  std::vector<std::string> calibration, evaluation;
  int64_t group = 0, calibration_tokens = 32768, evaluation_tokens = 16384, row = 512;
  bool force = false;
};

TokenRows rows_of(const std::vector<std::string>& inputs, const QuantizeFlags& o, const Model& model, int64_t tokens) {
  if (inputs.empty()) return {};
  const Tokenizer tokenizer = Tokenizer::load(o.model);
  const EvaluationTexts texts =
      read_evaluation_texts(inputs, o.field, tokenizer, model.spec().config.vocab, 0);
  return rows_of_texts(texts, std::min(o.row, model.context()), tokens);
}

int64_t weight_bytes(const fs::path& folder) {
  int64_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.path().extension() == ".safetensors") bytes += static_cast<int64_t>(entry.file_size());
  return bytes;
}

struct Written {
  QuantizeResult result;
  int64_t bytes = 0, bytes_before = 0;
  double seconds = 0;
};

Written write_folder(const QuantizeFlags& o, Model& model, const TokenRows& calibration, const fs::path& folder,
                     const Runtime& runtime, Common& common) {
  const auto start = std::chrono::steady_clock::now();
  Progress progress(common.log, "quantizing", "matrices", 0);
  QuantizeOptions options;
  options.bits = o.format == "int8" ? 8 : 4;
  options.group = o.group;
  options.calibration = calibration;
  options.progress = [&](int64_t done, int64_t) { progress.update(static_cast<uint64_t>(done)); };
  Written w;
  w.result = quantise_folder(o.model, model, folder, options, runtime.exec);
  w.bytes = weight_bytes(folder);
  w.bytes_before = weight_bytes(o.model);
  w.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return w;
}

Json result_json(const QuantizeFlags& o, const Written& w, const std::optional<Comparison>& c) {
  const QuantizeResult& r = w.result;
  const auto or_null = [&](double value) { return c ? Json(value) : Json(nullptr); };
  const Comparison cost = c.value_or(Comparison{});
  return {{"output", o.out},
          {"format", o.format},
          {"group_size", r.group},
          {"method", o.calibration.empty() ? "nearest" : "gptq"},
          {"bits_per_weight", static_cast<double>(r.quantised_bits) / static_cast<double>(r.quantised_weights)},
          {"quantized_weights", r.quantised_weights},
          {"weights", r.weights},
          {"bytes", w.bytes},
          {"bytes_before", w.bytes_before},
          {"seconds", w.seconds},
          {"kld", or_null(cost.kld)},
          {"perplexity_before", or_null(cost.perplexity_before)},
          {"perplexity_after", or_null(cost.perplexity_after)},
          {"same_top", or_null(cost.same_top)},
          {"tokens_compared", cost.tokens}};
}

std::string result_text(const QuantizeFlags& o, const Written& w, const std::optional<Comparison>& c) {
  std::string text = fmt::format("{}: {} in groups of {}, {} -> {}", o.out, o.format, w.result.group,
                                 human_bytes(w.bytes_before), human_bytes(w.bytes));
  if (c)
    text += fmt::format("\nperplexity {:.4f} -> {:.4f} ({:+.3f} %), divergence {:.6f} nats over {} tokens",
                        c->perplexity_before, c->perplexity_after,
                        100 * (c->perplexity_after / c->perplexity_before - 1), c->kld, c->tokens);
  return text;
}

int quantize(const QuantizeFlags& o, Common& common) {
  check(o.format == "int8" || o.format == "int4", Code::usage, "[quantize] format ", o.format, ": int8 or int4");
  Runtime runtime(common);
  OutputFolder out(o.out, o.force);
  auto model = load_model(o.model, Purpose::inference, 0, runtime.exec);
  const TokenRows calibration = rows_of(o.calibration, o, *model, o.calibration_tokens);
  const TokenRows text = rows_of(o.evaluation.empty() ? o.calibration : o.evaluation, o, *model, o.evaluation_tokens);
  const Written written = write_folder(o, *model, calibration, out.path(), runtime, common);
  if (!written.result.even_groups)
    common.log.warning(fmt::format("some matrices' columns are no multiple of {}: other readers may refuse the folder; "
                                   "choose a --group-size that divides them", written.result.group));
  std::optional<Comparison> comparison;
  if (!text.empty()) {  // the folder as written, by the kernels that will run it
    model = load_model(o.model, Purpose::inference, 0, runtime.exec);
    const auto quantised = load_model(out.path(), Purpose::inference, 0, runtime.exec);
    comparison = compare_models(*model, *quantised, text, runtime.exec);
  }
  out.commit();
  print_result(common, result_json(o, written, comparison), result_text(o, written, comparison));
  return 0;
}

}  // namespace

void add_quantize(CLI::App& app, Common& common) {
  auto o = std::make_shared<QuantizeFlags>();
  app.add_option("MODEL", o->model, "model folder")->required();
  app.add_option("OUT", o->out, "folder to write")->required();
  app.add_option("--format", o->format, "int8 or int4")->required();
  app.add_option("--group-size", o->group, "weights that share a scale, 0 for 128 (int8) or 32 (int4)")
      ->check(at_least(0));
  app.add_option("--calibration", o->calibration, "text, JSON lines or a packed folder to calibrate on (repeatable)");
  app.add_option("--calibration-tokens", o->calibration_tokens, "tokens of it to use")->check(at_least(1));
  app.add_option("--evaluation", o->evaluation, "text to compare on; the calibration's when absent (repeatable)");
  app.add_option("--evaluation-tokens", o->evaluation_tokens, "tokens of it to use")->check(at_least(1));
  app.add_option("--field", o->field, "text field of JSON lines");
  app.add_option("--row", o->row, "tokens of a row, at most the model's context")->check(CLI::Range(2, 1 << 20));
  app.add_flag("--force", o->force, "replace the output");
  examples(app, {"llmctl quantize model model-int8 --format int8 --evaluation held-out.txt",
                 "llmctl quantize model model-int4 --format int4 --calibration train.jsonl --evaluation held-out.txt --json"});
  on_run(app, common, [o, &common] { return quantize(*o, common); });
}

}  // namespace llmctl
