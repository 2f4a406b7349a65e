// SPDX-License-Identifier: Apache-2.0
// `llmctl moderate`: risk scores of texts; `llmctl moderate train`: the classifier behind them.
#include <fmt/format.h>

#include "cmd/commands.h"
#include "core/base/clock.h"
#include "core/base/digest.h"
#include "data/text/utf8.h"
#include "safety/moderation.h"
#include "safety/trainer.h"

namespace llmctl {
namespace {

// The name a model has in the moderation object: its folder's.
std::string name_of_folder(const fs::path& folder) {
  const fs::path absolute = fs::absolute(folder).lexically_normal();
  return (absolute.has_filename() ? absolute : absolute.parent_path()).filename().string();
}

// ---------------------------------------------------------------- texts from files

struct ScoreOptions {
  std::string text, input, output, field, model;
  bool has_text = false, force = false;
};

// One text per line, or per JSON object when there is a field to take it from.
class TextReader {
 public:
  TextReader(const fs::path& path, std::string field)
      : reader_(path), path_(path.string()), field_(std::move(field)) {
    const fs::path plain = path.extension() == ".gz" || path.extension() == ".zst" ? path.stem() : path;
    if (field_.empty() && plain.extension() == ".jsonl") field_ = "text";
  }
  // The next texts, at most `most`; none at the end.
  std::vector<std::string> next(size_t most) {
    std::vector<std::string> out;
    std::string line;
    while (out.size() < most && reader_.line(line)) {
      const std::string who = path_ + ":" + std::to_string(++number_);
      if (!field_.empty()) {
        if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
        const Json object = parse_json(line, who);
        check(object.is_object() && object.contains(field_) && object[field_].is_string(), Code::input,
              "[moderate] ", who, ": no string field \"", field_, "\"; name another with --field");
        line = object[field_].get<std::string>();
      }
      check(is_utf8(line), Code::input, "[moderate] ", who, ": not valid UTF-8, convert the file first");
      out.push_back(line);
    }
    return out;
  }

 private:
  ByteReader reader_;
  std::string path_, field_;
  int64_t number_ = 0;
};

// Verdicts of many texts as lines, in order.
std::string verdict_lines(const TextClassifier& model, const std::vector<std::string>& texts,
                          const kn::Exec& exec, int64_t& flagged) {
  std::vector<ModerationVerdict> verdicts(texts.size());
  kn::parallel_for(exec, static_cast<int64_t>(texts.size()), [&](int64_t i) {
    verdicts[static_cast<size_t>(i)] = moderate(model, texts[static_cast<size_t>(i)]);
  });
  std::string lines;
  for (const ModerationVerdict& v : verdicts) {
    flagged += v.flagged ? 1 : 0;
    (lines += moderation_result(v).dump()) += '\n';
  }
  return lines;
}

int score_file(const ScoreOptions& o, Common& common) {
  constexpr size_t kAtOnce = 4096;
  Runtime runtime(common);
  const auto start = Clock::now();
  const TextClassifier model = load_classifier(o.model);
  std::unique_ptr<OutputFile> file;
  if (!o.output.empty()) file = std::make_unique<OutputFile>(o.output, o.force);
  Progress progress(common.log, "moderating", "texts", 0);
  int64_t inputs = 0, flagged = 0;
  for (const fs::path& path : expand_inputs({o.input})) {
    TextReader reader(path, o.field);
    for (;;) {
      stop_if_interrupted("moderate");
      const auto texts = reader.next(kAtOnce);
      if (texts.empty()) break;
      const std::string lines = verdict_lines(model, texts, runtime.exec, flagged);
      if (file)
        file->write(lines);
      else if (!common.json)
        print_text(lines);
      inputs += static_cast<int64_t>(texts.size());
      progress.update(static_cast<uint64_t>(inputs));
    }
  }
  progress.finish();
  check(inputs > 0, Code::input, "[moderate] ", o.input, ": no texts in it");
  if (file) file->commit();
  const double seconds = seconds_since(start);
  const std::string summary = fmt::format("{} texts, {} flagged, {:.2f} s", inputs, flagged, seconds);
  if (file || common.json)
    print_result(common, {{"inputs", inputs}, {"flagged", flagged}, {"seconds", seconds}}, summary);
  else
    common.log.line(summary);
  return 0;
}

int score(const ScoreOptions& o, Common& common) {
  check(o.has_text != !o.input.empty(), Code::usage, "[moderate] give either --text or --input");
  check(!o.model.empty(), Code::usage, "[moderate] --model is missing: a folder written by `moderate train`");
  if (!o.has_text) return score_file(o, common);
  check(o.output.empty(), Code::usage, "[moderate] --output goes with --input; --text prints its result");
  const Json object = moderation_object(load_classifier(o.model), name_of_folder(o.model), o.text);
  print_result(common, object, object.dump(2));
  return 0;
}

// ---------------------------------------------------------------- training

struct ModerateTrainConfig {
  LabelledSource source;
  ClassifierTraining training;
  std::string output;
  template <class V>
  void fields(V& v) {
    v("data", source.inputs, "labelled files, folders or globs");
    v("format", source.format, "layout of the data").choices({"jsonl", "davidson"});
    v("text_field", source.text_field, "field that holds the text");
    v("labels_field", source.labels_field, "field that holds the array of categories, [] for safe");
    v("categories", source.categories, "categories to learn; empty: OpenAI's that occur");
    v("buckets", training.shape.buckets, "hash buckets, a power of two");
    v("char_min", training.shape.char_min, "shortest character n-gram");
    v("char_max", training.shape.char_max, "longest character n-gram");
    v("epochs", training.epochs, "passes over the training part");
    v("learning_rate", training.learning_rate, "AdaGrad's step");
    v("l2", training.l2, "weight decay of the weights a text touches");
    v("held_out", training.held_out, "share kept to calibrate and measure");
    v("precision", training.precision, "wanted precision of the thresholds; 0: best F1");
    v("seed", training.seed, "of the split and of the order");
    v("output", output, "folder for the model");
  }
};

struct TrainOptions {
  ModerateTrainConfig config;
  std::string file;
  bool force = false;
  std::unique_ptr<ConfigFlags> flags;
};

Json measures_json(const TrainedClassifier& t) {
  Json categories = Json::array();
  for (const CategoryMeasures& c : t.categories)
    categories.push_back({{"category", c.category},
                          {"positives_trained", c.positives_trained},
                          {"positives_measured", c.positives_measured},
                          {"auroc", c.auroc < 0 ? Json(nullptr) : Json(c.auroc)},
                          {"ece", c.ece},
                          {"threshold", c.threshold},
                          {"precision", c.at.precision()},
                          {"recall", c.at.recall()},
                          {"f1", c.at.f1()}});
  return {{"texts_trained", t.trained},
          {"texts_calibrated", t.calibrated},
          {"texts_measured", t.measured},
          {"ece", t.ece},
          {"mean_auroc", t.mean_auroc < 0 ? Json(nullptr) : Json(t.mean_auroc)},
          {"categories", std::move(categories)}};
}

std::string measures_table(const TrainedClassifier& t) {
  std::string out = fmt::format("{:<24} {:>9} {:>7} {:>7} {:>9} {:>9} {:>7}\n", "category", "positives",
                                "AUROC", "ECE", "threshold", "precision", "recall");
  for (const CategoryMeasures& c : t.categories) {
    const std::string area = c.auroc < 0 ? "-" : fmt::format("{:.4f}", c.auroc);
    out += fmt::format("{:<24} {:>9} {:>7} {:>7.4f} {:>9.3f} {:>9.3f} {:>7.3f}\n", c.category,
                       c.positives_measured, area, c.ece, c.threshold, c.at.precision(), c.at.recall());
  }
  return out +
         fmt::format(
             "calibration error (ECE, 15 bins) {:.4f} over {} texts kept apart; {} trained, {} calibrated",
             t.ece, t.measured, t.trained, t.calibrated);
}

Json digests_of(const std::vector<std::string>& inputs) {
  Json out = Json::object();
  for (const fs::path& path : expand_inputs(inputs))
    if (path != "-") out[path.string()] = digest_of_file(path).hex();
  return out;
}

int train(TrainOptions& o, Common& common) {
  o.flags->resolve(o.file);
  ModerateTrainConfig& config = o.config;
  check(!config.source.inputs.empty(), Code::usage,
        "[moderate] no training data: set \"data\" in the config");
  check(!config.output.empty(), Code::usage,
        "[moderate] no folder for the model: set \"output\" in the config");
  check(o.force || !fs::exists(config.output), Code::usage, "[moderate] ", config.output,
        " exists already; give --force to replace it");
  Runtime runtime(common);
  const auto start = Clock::now();
  const LabelledTexts data = read_labelled(config.source);
  common.log.line(fmt::format("{} texts in {} categories read in {:.2f} s", data.items.size(),
                              data.categories.size(), seconds_since(start)));
  const TrainedClassifier trained = train_classifier(data, config.training, runtime.exec, interrupted);
  const Json measures = measures_json(trained);
  save_classifier(
      trained.model,
      {{"config", o.flags->write()}, {"inputs", digests_of(config.source.inputs)}, {"measures", measures}},
      config.output, o.force);
  Json result = {{"output", config.output}};
  result.update(measures);
  result["seconds"] = seconds_since(start);
  result["digest"] = trained.model.digest();
  print_result(
      common, result,
      measures_table(trained) + fmt::format("\n{} written in {:.1f} s", config.output, seconds_since(start)));
  return 0;
}

void add_moderate_train(CLI::App& app, Common& common) {
  auto o = std::make_shared<TrainOptions>();
  app.add_option("CONFIG", o->file, "JSON file with the fields below");
  app.add_flag("--force", o->force, "replace the output folder");
  o->flags = std::make_unique<ConfigFlags>(app, common, fields_of(o->config));
  examples(app, {"llmctl moderate train guard.json",
                 "llmctl moderate train --data labelled.jsonl --output out/guard --epochs 4",
                 "llmctl moderate train --data labeled_data.csv --format davidson --output out/tweets"});
  on_run(app, common, [o, &common] { return train(*o, common); });
}

}  // namespace

void add_moderate(CLI::App& app, Common& common) {
  auto o = std::make_shared<ScoreOptions>();
  CLI::Option* text = app.add_option("--text", o->text, "the text to score");
  app.add_option("--input", o->input, "texts: one per line, or JSONL; file, folder, glob or -");
  app.add_option("--field", o->field, "field with the text in JSONL (default for *.jsonl: text)");
  app.add_option("--output", o->output, "file for one JSON line per text (default: stdout)");
  app.add_option("--model", o->model, "folder written by `moderate train`");
  app.add_flag("--force", o->force, "replace the output file");
  examples(app,
           {"llmctl moderate --model out/guard --text 'how do I bake bread?'",
            "llmctl moderate --model out/guard --input chats.jsonl --field prompt --output verdicts.jsonl"});
  on_run(app, common, [o, text, &common] {
    o->has_text = text->count() > 0;
    return score(*o, common);
  });
  add_moderate_train(*app.add_subcommand("train", "train the classifier on labelled texts"), common);
}

}  // namespace llmctl
