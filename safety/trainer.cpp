// SPDX-License-Identifier: Apache-2.0
#include "safety/trainer.h"

#include <algorithm>
#include <cmath>

#include "safety/elementary.h"

namespace llmctl {
namespace {

enum Part : char { training, calibrating, measuring };
constexpr int kParts = 3;

struct Prepared {
  std::vector<Part> part;
  std::vector<Features> features;  // of the training part; empty elsewhere
  std::vector<size_t> rows[kParts];
};

bool has(const LabelledText& item, int category) {
  return std::binary_search(item.labels.begin(), item.labels.end(), category);
}

Prepared prepare(const LabelledTexts& data, const ClassifierTraining& o, const kn::Exec& exec) {
  Prepared out;
  const size_t n = data.items.size();
  out.part.resize(n);
  out.features.resize(n);
  kn::parallel_for(exec, static_cast<int64_t>(n), [&](int64_t i) {
    const size_t row = static_cast<size_t>(i);
    const auto words = folded_words(data.items[row].text);
    std::string joined;
    for (const std::string& word : words) (joined += word) += ' ';
    const double draw = static_cast<double>(text_hash(joined, o.seed) >> 11) / 9007199254740992.0;
    out.part[row] = draw >= o.held_out ? training : draw >= o.held_out * 0.5 ? calibrating : measuring;
    if (out.part[row] == training) out.features[row] = features_of(words, 0, words.size(), o.shape);
  });
  for (size_t i = 0; i < n; ++i) out.rows[static_cast<size_t>(out.part[i])].push_back(i);
  const char* const names[kParts] = {"training", "calibration", "measuring"};
  for (size_t p = 0; p < kParts; ++p)
    check(!out.rows[p].empty(), Code::input, "[moderate] of ", n, " texts none fell into the ", names[p],
          " part: give more texts or another held_out");
  return out;
}

// The training rows in the order of this epoch: sorted by a hash of (seed, epoch, position).
std::vector<size_t> epoch_order(const std::vector<size_t>& rows, uint64_t seed, int64_t epoch) {
  std::vector<std::pair<uint64_t, size_t>> keyed;
  keyed.reserve(rows.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    const uint64_t counter[3] = {seed, static_cast<uint64_t>(epoch), i};
    char bytes[sizeof counter];
    for (size_t b = 0; b < sizeof bytes; ++b) bytes[b] = static_cast<char>(counter[b / 8] >> (8 * (b % 8)));
    keyed.emplace_back(text_hash({bytes, sizeof bytes}, 0x6f72646572), rows[i]);
  }
  std::sort(keyed.begin(), keyed.end());
  std::vector<size_t> order;
  order.reserve(rows.size());
  for (const auto& k : keyed) order.push_back(k.second);
  return order;
}

// One category's logistic regression in double; rounded to f32 once, at the end.
struct AdaGrad {
  explicit AdaGrad(const ClassifierTraining& o)
      : rate(o.learning_rate),
        l2(o.l2),
        weight(static_cast<size_t>(o.shape.buckets)),
        squares(static_cast<size_t>(o.shape.buckets)) {}
  double rate, l2;
  std::vector<double> weight, squares;
  double bias = 0, bias_squares = 0;

  void step(double& w, double& sum, double gradient) const {
    sum += gradient * gradient;
    w -= rate * gradient / (std::sqrt(sum) + 1e-8);
  }
  void learn(const Features& x, double target) {
    double z = bias;
    for (const Feature& f : x) z += weight[f.bucket] * static_cast<double>(f.value);
    const double error = elementary::logistic(z) - target;
    for (const Feature& f : x)
      step(weight[f.bucket], squares[f.bucket], error * static_cast<double>(f.value) + l2 * weight[f.bucket]);
    step(bias, bias_squares, error);
  }
};

// margins[row][category] of the rows, in parallel over rows.
std::vector<std::vector<double>> margins_of(const TextClassifier& model, const LabelledTexts& data,
                                            const std::vector<size_t>& rows, const kn::Exec& exec) {
  std::vector<std::vector<double>> out(rows.size());
  kn::parallel_for(exec, static_cast<int64_t>(rows.size()), [&](int64_t i) {
    const size_t at = static_cast<size_t>(i);
    out[at] = model.margins(data.items[rows[at]].text);
  });
  return out;
}

// Column c of margins beside the truth.
void column_of(const std::vector<std::vector<double>>& margins, const LabelledTexts& data,
               const std::vector<size_t>& rows, size_t c, std::vector<double>& z, std::vector<char>& truth) {
  z.clear();
  truth.clear();
  for (size_t i = 0; i < rows.size(); ++i) {
    z.push_back(margins[i][c]);
    truth.push_back(has(data.items[rows[i]], static_cast<int>(c)) ? 1 : 0);
  }
}

void calibrate_model(TextClassifier& model, const LabelledTexts& data, const std::vector<size_t>& rows,
                     double precision, const kn::Exec& exec) {
  const auto margins = margins_of(model, data, rows, exec);
  std::vector<double> z;
  std::vector<char> truth;
  for (size_t c = 0; c < model.categories.size(); ++c) {
    column_of(margins, data, rows, c, z, truth);
    Calibration& calibration = model.calibration[c];
    calibration = calibrate(z, truth);
    for (double& v : z) v = calibration.score(v);
    calibration.threshold = best_threshold(z, truth, precision);
  }
}

void measure(TrainedClassifier& out, const LabelledTexts& data, const std::vector<size_t>& rows,
             const kn::Exec& exec) {
  const auto margins = margins_of(out.model, data, rows, exec);
  std::vector<double> z, all_scores;
  std::vector<char> truth, all_truths;
  double auroc_sum = 0;
  int64_t auroc_count = 0;
  for (size_t c = 0; c < out.model.categories.size(); ++c) {
    column_of(margins, data, rows, c, z, truth);
    const Calibration& calibration = out.model.calibration[c];
    for (double& v : z) v = calibration.score(v);
    CategoryMeasures m;
    m.category = out.model.categories[c];
    m.positives_measured = std::count(truth.begin(), truth.end(), char{1});
    m.auroc = auroc(z, truth);
    m.ece = calibration_error(z, truth);
    m.threshold = calibration.threshold;
    m.at = at_threshold(z, truth, calibration.threshold);
    if (m.auroc >= 0) auroc_sum += m.auroc, ++auroc_count;
    all_scores.insert(all_scores.end(), z.begin(), z.end());
    all_truths.insert(all_truths.end(), truth.begin(), truth.end());
    out.categories.push_back(std::move(m));
  }
  out.measured = static_cast<int64_t>(rows.size());
  out.ece = calibration_error(all_scores, all_truths);
  out.mean_auroc = auroc_count ? auroc_sum / static_cast<double>(auroc_count) : -1.0;
}

void check_options(const ClassifierTraining& o) {
  check_shape(o.shape, "the config");
  check(o.epochs >= 1 && o.epochs <= 1000, Code::input, "[moderate] epochs is ", o.epochs, ": use 1 to 1000");
  check(o.learning_rate > 0 && o.learning_rate < 1e3, Code::input, "[moderate] learning_rate is ",
        o.learning_rate, ": use a value above 0");
  check(o.l2 >= 0 && o.l2 < 1e3, Code::input, "[moderate] l2 is ", o.l2, ": use a value of 0 or above");
  check(o.held_out > 0 && o.held_out <= 0.9, Code::input, "[moderate] held_out is ", o.held_out,
        ": use a share above 0, at most 0.9");
  check(o.precision >= 0 && o.precision <= 1, Code::input, "[moderate] precision is ", o.precision,
        ": use a share from 0 to 1");
}

// One optimizer per category, over all epochs; the order of an epoch is the same for all.
std::vector<AdaGrad> fit(const LabelledTexts& data, const ClassifierTraining& o, const Prepared& prepared,
                         const kn::Exec& exec, const std::function<bool()>& stop) {
  std::vector<AdaGrad> out(data.categories.size(), AdaGrad(o));
  for (int64_t epoch = 0; epoch < o.epochs; ++epoch) {
    check(!(stop && stop()), Code::interrupted, "[moderate] interrupted in epoch ", epoch + 1, " of ",
          o.epochs, ": no model was written");
    const auto order = epoch_order(prepared.rows[training], o.seed, epoch);
    kn::parallel_for(exec, static_cast<int64_t>(out.size()), [&](int64_t c) {
      for (size_t row : order)
        out[static_cast<size_t>(c)].learn(prepared.features[row],
                                          has(data.items[row], static_cast<int>(c)) ? 1.0 : 0.0);
    });
  }
  return out;
}

// Categories side by side, as the scorer reads them.
TextClassifier joined(const std::vector<AdaGrad>& columns, const LabelledTexts& data,
                      const FeatureShape& shape) {
  TextClassifier model;
  model.shape = shape;
  model.categories = data.categories;
  model.calibration.resize(columns.size());
  const size_t buckets = static_cast<size_t>(shape.buckets), n = columns.size();
  model.weight.resize(buckets * n);
  for (size_t c = 0; c < n; ++c)
    for (size_t b = 0; b < buckets; ++b) model.weight[b * n + c] = static_cast<float>(columns[c].weight[b]);
  for (const AdaGrad& column : columns) model.bias.push_back(static_cast<float>(column.bias));
  return model;
}

}  // namespace

TrainedClassifier train_classifier(const LabelledTexts& data, const ClassifierTraining& options,
                                   const kn::Exec& exec, const std::function<bool()>& stop) {
  check_options(options);
  const Prepared prepared = prepare(data, options, exec);
  TrainedClassifier out;
  out.model = joined(fit(data, options, prepared, exec, stop), data, options.shape);
  calibrate_model(out.model, data, prepared.rows[calibrating], options.precision, exec);
  measure(out, data, prepared.rows[measuring], exec);
  out.trained = static_cast<int64_t>(prepared.rows[training].size());
  out.calibrated = static_cast<int64_t>(prepared.rows[calibrating].size());
  for (size_t row : prepared.rows[training])
    for (int label : data.items[row].labels) ++out.categories[static_cast<size_t>(label)].positives_trained;
  return out;
}

}  // namespace llmctl
