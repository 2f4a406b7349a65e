// SPDX-License-Identifier: Apache-2.0
#include "cmd/training.h"

#include "cmd/build_id.h"
#include "data/tokenizer/tokenizer.h"

namespace llmctl {

ModelSpec training_spec(const TrainConfig& config) {
  Json hf = config.model;
  std::string who = "[train] model";
  if (!config.init.empty()) {
    check(hf.empty(), Code::input, "[train] both model and init are given: the model is init's");
    hf = read_json(fs::path(config.init) / "config.json");
    who = "[train] " + config.init;
  }
  check(!hf.empty(), Code::input,
        "[train] the config has no model: give the fields of a config.json, or init");
  if (!hf["llmctl"].is_object()) hf["llmctl"] = Json::object();
  const Json said = hf["llmctl"].value("bf16_order", Json(config.numerics.bf16_order));
  check(said == config.numerics.bf16_order, Code::input, who, " states bf16_order ", said.dump(),
        " and the config ", config.numerics.bf16_order,
        ": set numerics.bf16_order to what the run is to have");
  hf["llmctl"]["bf16_order"] = config.numerics.bf16_order;
  return make_model_spec(hf, config.numerics.compute == "bf16" ? DType::bf16 : DType::f32, who);
}

namespace {

// Errors of bad values in the config come before anything is opened.
void check_data(const PackedCorpus& corpus, const ModelSpec& spec, const Tokenizer* tokenizer,
                const std::string& path) {
  check(corpus.vocab_size <= spec.config.vocab, Code::input, "[train] ", path, " was packed with ",
        corpus.vocab_size, " ids, the model has ", spec.config.vocab);
  if (tokenizer && !corpus.tokenizer_digest.empty())
    check(corpus.tokenizer_digest == tokenizer->digest(), Code::input, "[train] ", path,
          " was packed with another tokenizer: digest ", corpus.tokenizer_digest, ", not ",
          tokenizer->digest());
}

// Shares of tokens: as given, or from how often each part is to be read.
std::vector<PackedPart> open_parts(const DataConfig& data) {
  check(data.train.empty() != data.mixture.empty(), Code::input, "[train] data.train ",
        data.train.empty() ? "is missing: a folder of packed tokens" : "and data.mixture are both there: give one");
  std::vector<PackedPart> parts;
  if (!data.train.empty()) parts.push_back({open_packed(data.train), 1});
  for (const DataPartConfig& part : data.mixture) {
    check((part.weight > 0) != (part.epochs > 0) && (part.epochs > 0) == (data.mixture[0].epochs > 0), Code::input,
          "[train] data.mixture, ", part.path, ": weight ", part.weight, ", epochs ", part.epochs,
          ": give every part a weight, or every part epochs");
    parts.push_back({open_packed(part.path), part.weight});
    if (part.epochs > 0) parts.back().weight = part.epochs * static_cast<double>(parts.back().corpus.tokens);
  }
  return parts;
}

}  // namespace

std::unique_ptr<TrainingJob> make_training_job(const TrainConfig& config, const Json& resolved,
                                               const fs::path& folder, const Common& common) {
  auto job = std::make_unique<TrainingJob>();
  RunInputs& in = job->inputs;
  in.config = config;
  in.resolved_config = resolved;
  in.folder = folder;
  in.spec = training_spec(config);
  std::unique_ptr<Tokenizer> tokenizer;
  if (!config.data.tokenizer.empty()) {
    tokenizer = std::make_unique<Tokenizer>(Tokenizer::load(config.data.tokenizer));
    check(tokenizer->vocab_size() <= in.spec.config.vocab, Code::input, "[train] the tokenizer has ",
          tokenizer->vocab_size(), " ids, the model's vocab_size is ", in.spec.config.vocab);
    if (in.spec.eos_ids.empty() && tokenizer->eos()) {
      in.spec.eos_ids = {*tokenizer->eos()};
      in.spec.hf["eos_token_id"] = *tokenizer->eos();
    }
    in.extra_model_files = [t = *tokenizer](const fs::path& model) { t.save(model); };
  }
  std::vector<PackedPart> parts = open_parts(config.data);
  for (size_t k = 0; k < parts.size(); ++k)
    check_data(parts[k].corpus, in.spec, tokenizer.get(),
               config.data.mixture.empty() ? config.data.train : config.data.mixture[k].path);
  job->train = std::make_unique<PackedSource>(
      std::move(parts), LoaderOptions{config.unit.seq_len, config.unit.sequences, config.batch.units,
                                      static_cast<uint64_t>(config.seed)});
  in.train = job->train.get();
  if (!config.data.validation.empty()) {
    PackedCorpus held_out = open_packed(config.data.validation);
    check_data(held_out, in.spec, tokenizer.get(), config.data.validation);
    job->validation = std::make_unique<SequentialSource>(std::move(held_out), config.unit.seq_len,
                                                         config.unit.seq_len, config.unit.sequences);
    in.validation = job->validation.get();
    in.validation_units = job->validation->units();
  }
  Json command = Json::array();
  for (const std::string& word : common.command_line) command.push_back(word);
  in.provenance = {{"command", command}, {"build", kBuildId}, {"kind", "train"}};
  in.provenance["inputs"] = {{"train", in.train->digest()},
                             {"validation", in.validation ? Json(in.validation->digest()) : Json(nullptr)},
                             {"tokenizer", tokenizer ? Json(tokenizer->digest()) : Json(nullptr)}};
  return job;
}

TrainConfig config_of_run(const fs::path& run) {
  const Json json = read_json(run / "run.json");
  check(json.is_object() && json.contains("config"), Code::input, "[run] ", (run / "run.json").string(),
        " has no config: is it a training run?");
  TrainConfig config;
  fields_of(config).read(json["config"], (run / "run.json").string());
  return config;
}

Json result_json(const fs::path& run, const RunResult& r) {
  return {{"run", run.string()},
          {"steps", r.steps},
          {"train_loss", r.train_loss},
          {"val_loss", r.validated ? Json(r.val_loss) : Json(nullptr)},
          {"tokens_per_second", r.tokens_per_second},
          {"seconds", r.seconds},
          {"checkpoint", r.checkpoint.string()},
          {"digest", r.digest}};
}

}  // namespace llmctl
