// SPDX-License-Identifier: Apache-2.0
// A linear classifier on hashed n-grams: one logistic regression per category, each with its
// own calibration and threshold.
//
// A model is a folder: `config.json` ({"model_type": "llmctl_hashed_ngrams", "categories", "buckets",
// "char_min", "char_max", "fold_version", "calibration": [{"slope", "offset", "threshold"}],
// "training": how it was made, for people}) and
// `model.safetensors` (`weight` (buckets, categories) f32, `bias` (categories) f32).
//
// Const after training or loading: any number of threads may score at once.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/base/file.h"
#include "core/base/json.h"
#include "safety/calibration.h"
#include "safety/features.h"

namespace llmctl {

struct TextClassifier {
  FeatureShape shape;
  std::vector<std::string> categories;
  std::vector<float> weight;  // (buckets, categories)
  std::vector<float> bias;    // (categories)
  std::vector<Calibration> calibration;

  // Margins before calibration, one per category. A text of more than 128 words is read in windows
  // of 128 words, half overlapping, and each category keeps its largest margin, so that much
  // harmless text does not dilute a harmful passage. Error{input} for invalid UTF-8.
  std::vector<double> margins(std::string_view text) const;
  // Calibrated probabilities, one per category.
  std::vector<double> scores(std::string_view text) const;
  // Hex digest of the weights and calibration.
  std::string digest() const;
};

// Writes the folder under its final name only when complete. Error{usage} when it exists and
// !overwrite; Error{io}.
void save_classifier(const TextClassifier& model, const Json& training, const fs::path& folder,
                     bool overwrite);
// Error{input} for a folder that is missing, truncated or inconsistent; Error{unsupported} for
// another model_type or fold_version.
TextClassifier load_classifier(const fs::path& folder);

}  // namespace llmctl
