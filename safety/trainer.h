// SPDX-License-Identifier: Apache-2.0
// Trains a TextClassifier: per category a logistic regression by AdaGrad (Duchi et al. 2011) in an
// order drawn from a counter, calibrated on a second part of the texts and measured on a third.
// The part of a text is a function of (seed, folded text), so copies of a text share their part.
//
// The same bits for any number of threads (one task is one category, and one text).
// bits: any-isa
#pragma once

#include <functional>

#include "kernels/exec.h"
#include "safety/classifier.h"
#include "safety/labelled.h"
#include "safety/measures.h"

namespace llmctl {

struct ClassifierTraining {
  FeatureShape shape;
  int64_t epochs = 8;           // passes over the training part, 1 to 1000
  double learning_rate = 0.05;  // > 0
  double l2 = 1e-5;             // on the weights a text touches, >= 0
  double held_out = 0.2;        // share kept from training: half calibrates, half measures; (0, 0.9]
  double precision = 0;         // wanted precision of each threshold; 0 maximises F1 instead
  uint64_t seed = 1;
};

struct CategoryMeasures {
  std::string category;
  int64_t positives_trained = 0, positives_measured = 0;
  double auroc = 0;  // -1 when the measuring part holds one class only
  double ece = 0;
  double threshold = 0;
  AtThreshold at;
};

struct TrainedClassifier {
  TextClassifier model;
  int64_t trained = 0, calibrated = 0, measured = 0;  // texts in each part
  double ece = 0;                                     // over all (text, category) pairs measured
  double mean_auroc = 0;                              // over the categories that have one; -1 for none
  std::vector<CategoryMeasures> categories;
};

// `stop` is asked between epochs; when it says true: Error{interrupted}, nothing to resume.
// Error{input} when a field is out of range or a part of the data is empty.
TrainedClassifier train_classifier(const LabelledTexts& data, const ClassifierTraining& options,
                                   const kn::Exec& exec, const std::function<bool()>& stop);

}  // namespace llmctl
