// SPDX-License-Identifier: Apache-2.0
#include "cmd/bench_runs.h"

#include <malloc.h>

#include <chrono>
#include <fstream>
#include <future>
#include <utility>

#include "core/base/clock.h"
#include "core/base/signal.h"

namespace llmctl {
ModelSpec with_leaves(ModelSpec spec, int leaves) {
  if (leaves == 0) return spec;
  Json hf = spec.hf;
  hf["llmctl"]["leaves"] = {{"attention", leaves}, {"mlp", leaves}, {"vocab", leaves}};
  return make_model_spec(hf, spec.compute, "[bench] numerics");
}

TrainConfig step_config(int64_t sequences, int64_t seq, int64_t units, bool contract) {
  TrainConfig c;
  c.unit = {sequences, seq};
  c.batch.units = units;
  c.numerics.accumulate = contract ? "fixed" : "f32";
  c.numerics.digest = contract;
  return c;
}

Stepper::Stepper(TrainConfig config_, ModelSpec spec, const kn::Exec& exec)
    : config(std::move(config_)),
      source(config.unit.sequences, config.unit.seq_len, spec.config.vocab),
      trainer(config, std::move(spec), exec) {
  trainer.allocate();
  trainer.model().initialise(1);
}

double Stepper::step() {
  stop_if_interrupted("bench");
  const auto start = Clock::now();
  trainer.step(source, steps++);
  return seconds_since(start);
}

GenerationRequest request_of(int64_t prompt, int tokens, int64_t salt) {
  GenerationRequest r;
  for (int64_t i = 0; i < prompt; ++i)
    r.prompt.push_back(static_cast<int32_t>((salt * 131 + i * 37) % 1999 + 3));
  r.sampling.temperature = 0;
  r.sampling.max_tokens = tokens;
  r.sampling.ignore_eos = true;
  return r;
}

CrowdResult run_crowd(GenerationEngine& engine, int clients, int64_t prompt, int tokens, int64_t salt,
                      const std::function<void()>& started) {
  struct {
    int unseen, running;
    int64_t counted = 0;
    Clock::time_point submitted = Clock::now(), start{};
    std::string error;
    std::promise<double> rate;
  } crowd{.unseen = clients,
          .running = clients};  // the sinks' own until the rate is set: all are called on one thread
  for (int c = 0; c < clients; ++c) {
    GenerationRequest r = request_of(prompt, tokens + 1, salt * 1024 + c);
    r.sink = [&crowd, &started, first = true](const TokenOut& t) mutable {
      if (t.id >= 0 && !first && crowd.unseen == 0) ++crowd.counted;
      if (std::exchange(first, false) && --crowd.unseen == 0) {
        if (started) started();
        crowd.start = Clock::now();
      }
      if (t.finish == Finish::failed) crowd.error = t.error;
      if (t.finish != Finish::none && --crowd.running == 0)
        crowd.rate.set_value(static_cast<double>(crowd.counted) / seconds_since(crowd.start));
      return !interrupted();
    };
    engine.submit(std::move(r));
  }
  const double rate = crowd.rate.get_future().get();
  stop_if_interrupted("bench");
  check(crowd.error.empty() && crowd.counted > 0, Code::bug, "[bench] nothing was decoded ", crowd.error);
  return {std::chrono::duration<double>(crowd.start - crowd.submitted).count(), rate};
}

bool reset_peak_resident() {
  ::malloc_trim(0);  // what was freed is not what is in use
  std::ofstream out("/proc/self/clear_refs");
  out << "5" << std::flush;
  return out.good();
}

}  // namespace llmctl
