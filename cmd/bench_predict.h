// SPDX-License-Identifier: Apache-2.0
// The predictions of a sweep: bench_cost.h's counts, the probes of the threads at hand, and the shares of
// them that one calibrating measurement shows.
#pragma once

#include "cmd/bench_cost.h"
#include "cmd/bench_runs.h"

namespace llmctl {

struct Prediction {
  double seconds = 0;
  double limit = 0;  // seconds with every kind of work at the probes' rates, and ops for nothing
};

struct Calibration {
  std::string size;                  // of kBenchModels
  int64_t sequences = 2, seq = 256;  // of the training step; the prompt has 2 seq tokens
  int decoded = 32;                  // tokens after it
  bool trains = true;
  std::vector<Storage> storages;
};

class Predictor {
 public:
  explicit Predictor(Bench& bench) : bench_(bench) {}
  // Measures, and adds the rates to the bench's rows.
  void calibrate_on(const Calibration& c);

  // `machine` has the threads of the point; working_set: bytes that the work goes round in.
  Prediction training(Bench& machine, const CostShape& shape, double sequences, double seq,
                      double working_set);
  Prediction prefill(Bench& machine, const CostShape& shape, const Storage& storage, double tokens,
                     double working_set);
  Prediction decode(Bench& machine, const CostShape& shape, const Storage& storage, double sequences,
                    double depth, double working_set);

 private:
  void calibrate_training(const Calibration& c);
  void calibrate_generation(const Calibration& c, const Storage& storage);
  Probes probes(Bench& machine, DType products, double working_set);
  void add_rates(const std::string& phase, const Shares& shares, const Probes& probes);

  Bench& bench_;
  std::map<int, double> op_seconds_;  // by threads
  Shares training_;
  std::map<std::string, Shares> generation_;  // by storage
};

}  // namespace llmctl
