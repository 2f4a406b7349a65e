// SPDX-License-Identifier: Apache-2.0
#include "core/train/run.h"

#include <fmt/format.h>

#include <array>
#include <fstream>

#include "core/base/clock.h"
#include "core/base/signal.h"
#include "core/train/checkpoint_writer.h"
#include "core/train/collect.h"
#include "core/train/guard.h"
#include "core/train/lease.h"
#include "core/train/metrics.h"
#include "core/train/report.h"
#include "core/train/tensorboard.h"
#include "kernels/basic.h"

namespace llmctl {
namespace {

void write_run_json(const RunInputs& in, const Model& model, const Json& skipped, RunLease& lease) {
  Json tensors = Json::array();
  for (const WeightState& w : model.parameters().all())
    for (const Param& p : w.spec.params) tensors.push_back(p.name);
  Json run = in.provenance;
  run["config"] = in.resolved_config;
  run["numerics"] = 1;
  run["data_digest"] = in.train->digest();
  run["parameters"] = parameter_count(model.parameters().table());
  run["tensors"] = tensors;
  if (!skipped.empty()) run["skipped"] = skipped;
  lease.write("run.json", run.dump(2) + "\n");
}

class Run {
 public:
  Run(const RunInputs& in, const kn::Exec& exec, Log& log)
      : in_(in),
        exec_(exec),
        log_(log),
        comm_(in.comm ? *in.comm : *alone_),
        mesh_(comm_, mesh_of(in.config, comm_.size())),
        trainer_(in.config, in.spec, exec, sharding_of(in.config, mesh_)),
        guard_(in_.config.guard) {}

  RunResult go() {
    prepare();
    const int64_t steps = in_.config.schedule.steps;
    Progress progress(log_, "training", "steps", static_cast<uint64_t>(steps));
    for (int64_t step = first_; step < steps && !result_.interrupted; ++step) {
      const std::optional<StepResult> made = make_step(step);
      if (!made) {
        go_back();
        step = first_ - 1;
        continue;
      }
      const AnyRank any = tell(*made, progress);
      if (any.failed) writer_->wait();
      const bool last = step + 1 == steps;
      result_.interrupted = !last && (any.interrupted || (in_.stop_after > 0 && step + 1 >= in_.stop_after));
      const int64_t every = in_.config.checkpoint.every;
      if (last || result_.interrupted || (every > 0 && (step + 1) % every == 0)) save(step + 1);
    }
    writer_->wait();
    note_save();
    progress.finish();
    finish();
    return result_;
  }

 private:
  void prepare() {
    bool exists = false;
    std::string from;
    together(comm_, "run folder", [&] {
      if (!first_rank()) return;
      exists = fs::exists(in_.folder / "run.json");
      check(!exists || in_.resume, Code::usage, "[train] ", in_.folder.string(),
            " holds a run: continue it with --resume, or name another folder");
      // Fenced first, looked at then: what an older epoch still published is found.
      lease_ = std::make_unique<RunLease>(
          in_.folder, LeaseOptions{.take_over = in_.take_over, .world = comm_.size(), .launch = in_.launch});
      if (in_.resume)
        if (const auto found = latest_checkpoint(in_.folder, in_.config.schedule.steps,
                                                 [&](const std::string& w) { log_.warning(w); }))
          from = found->string();
    });
    from = all_gather_text(comm_, from, "run folder").front();
    if (first_rank())
      for (const MemoryLine& line : trainer_.plan())
        log_.line(fmt::format("memory: {:<32} {}", line.what, human_bytes(line.bytes)));
    together(comm_, "memory", [&] { trainer_.allocate(); });
    writer_ = std::make_unique<CheckpointWriter>(comm_, exec_, in_.config.checkpoint.asynchronous);
    trainer_.optimizer().wait_at(&writer_->gate());
    begin_at(from);
    together(comm_, "run folder", [&] {
      if (first_rank()) open_files(exists, from);
    });
    together(comm_, "run folder", [&] {
      check(fs::exists(in_.folder / "run.json"), Code::io, "[train] ", in_.folder.string(),
            " is not the same folder on every rank: a run wants a file system that all ranks see");
    });
    if (first_rank()) peak_ = measure_peak(in_.spec.compute, in_.spec.config.order, exec_) * comm_.size();
    const DecoderConfig& c = in_.spec.config;
    flops_ = training_flops_per_token(c, trainer_.model().parameters().table(), in_.config.unit.seq_len);
  }

  // The state of a checkpoint, or of the run's start, and what the run knew then.
  void begin_at(const std::string& from) {
    CheckpointState s;
    if (!from.empty()) {
      s = load_checkpoint(from, trainer_.model(), exec_);
      together(comm_, "the run's data", [&] {
        check(s.data_digest == in_.train->digest(), Code::input, "[train] the data has digest ", in_.train->digest(),
              ", the run was on ", s.data_digest);
      });
    } else {
      start_weights();
    }
    first_ = result_.steps = s.step;
    tokens_ = s.tokens;
    last_weights_ = s.weights_digest;
    std::string known;
    together(comm_, "run folder", [&] {
      if (!first_rank()) return;
      const fs::path file = in_.folder / "run.json";
      const Json run = fs::exists(file) ? read_json(file) : Json::object();
      const std::string metrics = metrics_before(in_.folder / "metrics.jsonl", first_);
      known = Json{{"losses", last_losses(metrics, in_.config.guard.window)}, {"skipped", run.value("skipped", Json::array())}}.dump();
    });
    guard_.restore(parse_json(all_gather_text(comm_, known, "run folder").front(), "[guard]"));
  }

  void open_files(bool exists, const std::string& from) {
    if (!from.empty()) log_.line(fmt::format("resuming at step {} from {}", first_, from));
    if (!exists || from.empty()) write_run_json(in_, trainer_.model(), guard_.skipped_json(), *lease_);
    reopen_files();
  }

  void reopen_files() {
    if (metrics_.is_open()) metrics_.close();
    open_metrics();
    events_ = std::make_unique<EventWriter>(in_.folder / "events", first_);
  }

  // A file of its own for each epoch, opened before it has its name: see lease.h.
  void open_metrics() {
    const char* name = "metrics.jsonl";
    const fs::path staged = lease_->staging() / name;
    write_file(staged, metrics_before(in_.folder / name, first_), true);
    metrics_.open(staged, std::ios::app);
    check(metrics_.good(), Code::io, "[train] cannot write ", staged.string());
    lease_->publish(name, in_.folder / name);
  }

  bool first_rank() const { return comm_.rank() == 0; }

  // What one rank knows and all must: whether it was asked to stop, whether its save failed, how long the
  // last save held it up.
  struct AnyRank {
    bool interrupted = false, failed = false;
    double blocked = 0;
  };
  AnyRank any_rank(int64_t step) {
    std::array<int64_t, 3> any{interrupted(), writer_->failed(), static_cast<int64_t>(1e9 * writer_->blocked())};
    comm_.all_reduce(any, CommOp::max, CommLabel("end of the step", step));
    return {any[0] != 0, any[1] != 0, 1e-9 * static_cast<double>(any[2])};
  }

  void beat(const char* state) {
    if (lease_)
      lease_->beat({result_.steps, in_.config.schedule.steps, state, busy_ > 0 ? static_cast<double>(trained_) / busy_ : 0});
  }

  void start_weights() {
    if (trained_ > 0)  // a run that went back to its start
      for (const WeightState& w : trainer_.model().parameters().all())
        for (const View& moment : {w.m, w.v})
          if (moment && moment.size() > 0) kn::run(kn::Clear{.x = moment}, exec_);
    if (in_.config.init.empty()) return trainer_.model().initialise(in_.config.seed);
    trainer_.model().load(TensorStore(in_.config.init));
  }

  // One step of training, or what stands for one that is skipped; none: go back to the last checkpoint.
  std::optional<StepResult> make_step(int64_t step) {
    beat("training");
    const auto start = Clock::now();
    std::optional<StepResult> made;
    if (const SkippedStep* skipped = guard_.skipped(step)) {
      made = trainer_.look(*in_.train, step);
      made->skipped = skipped->reason;
    } else {
      made = trainer_.gradients(*in_.train, step);
      const std::string why = guard_.objection(*made);
      if (why.empty()) {
        trainer_.update(*made);
        guard_.taken(made->loss);
      } else if (!object(*made, why)) {
        made.reset();
      }
    }
    seconds_ = seconds_since(start);
    return made;
  }

  // A step whose gradients the guard does not want: whether the run goes on after it.
  bool object(StepResult& r, const std::string& why) {
    run_again(r.step, why);
    const GuardConfig& guard = in_.config.guard;
    if (guard.action == "stop")
      refuse_together(comm_, Error(Code::input, fmt::format("[train] step {}: {}, twice in a row; the weights of the step before are "
                                                            "kept (guard.action says what else could be done)",
                                                            r.step, why)));
    together(comm_, CommLabel("skipped steps", r.step), [&] {
      guard_.skip({r.step, why, r.batch.hex()});
      if (!first_rank()) return;
      Json run = read_json(in_.folder / "run.json");
      run["skipped"] = guard_.skipped_json();
      lease_->write("run.json", run.dump(2) + "\n");
      log_.warning(fmt::format("step {} {}: {}, twice in a row; its batch has digest {}", r.step,
                               guard.action == "skip" ? "is skipped" : "will be skipped, after a new start from the last checkpoint",
                               why, r.batch.hex()));
    });
    r.skipped = why;
    return guard.action == "skip";
  }

  // The same computation again: what comes to something else was not made by the data or the model.
  void run_again(int64_t step, const std::string& why) {
    beat("running a step again");
    const std::vector<Evidence> first = trainer_.evidence();
    trainer_.gradients(*in_.train, step);
    const std::string differs = difference_of(first, trainer_.evidence());
    together(comm_, CommLabel("step run again", step), [&] {
      check(differs.empty(), Code::device, "[train] step ", step, ": ", why, "; but run again, ", differs, ", at rank ", comm_.rank(),
            " on host ", host_name(), ": a flipped bit or a defect of this machine");
    });
  }

  void go_back() {
    beat("going back");
    writer_->wait();
    note_save();
    std::string from;
    together(comm_, "run folder", [&] {
      if (!first_rank()) return;
      if (const auto found = latest_checkpoint(in_.folder, in_.config.schedule.steps,
                                               [&](const std::string& w) { log_.warning(w); }))
        from = found->string();
    });
    from = all_gather_text(comm_, from, "run folder").front();
    begin_at(from);
    together(comm_, "run folder", [&] {
      if (!first_rank()) return;
      log_.line(fmt::format("going on from step {}", first_));
      reopen_files();
    });
  }

  AnyRank tell(const StepResult& r, Progress& progress) {
    const int64_t step = r.step;
    const double seconds = seconds_;
    tokens_ += r.tokens;
    trained_ += r.tokens;
    busy_ += seconds;
    result_.steps = step + 1;
    if (r.skipped.empty()) result_.train_loss = r.loss;
    if (!r.tensors.empty()) last_weights_ = r.weights.hex();
    Json line = metrics_line(r);
    if (!r.skipped.empty() && !last_weights_.empty()) line["digest"]["weights"] = last_weights_;
    line["tokens"] = tokens_;
    line["seconds"] = seconds;
    line["tokens_per_second"] = static_cast<double>(r.tokens) / seconds;
    line["of_peak"] = flops_ * static_cast<double>(r.tokens) / seconds / peak_;
    const int64_t every = in_.config.validation.every;
    const bool last = step + 1 == in_.config.schedule.steps;
    if (in_.validation && (last || (every > 0 && (step + 1) % every == 0))) {
      result_.val_loss = validate();
      result_.validated = true;
      line["val_loss"] = result_.val_loss;
    }
    const AnyRank any = any_rank(step);
    note_save(any.blocked);
    if (saved_) {
      line["checkpoint_seconds"] = saved_->seconds;
      line["checkpoint_blocked_seconds"] = saved_->blocked;
      saved_.reset();
    }
    together(comm_, CommLabel("metrics", step), [&] {
      if (first_rank()) record(line, r, step);
    });
    if (first_rank() && progress.due())
      progress.update(static_cast<uint64_t>(step + 1),
                      fmt::format("loss {:.4f}  {} tokens/s  {:.0f} % of peak", result_.train_loss,
                                  short_count(static_cast<double>(trained_) / busy_),
                                  100 * flops_ * static_cast<double>(trained_) / busy_ / peak_));
    return any;
  }

  void record(const Json& line, const StepResult& r, int64_t step) {
    lease_->check_held();
    metrics_ << line.dump() << "\n";
    metrics_.flush();
    check(metrics_.good(), Code::io, "[train] cannot write metrics.jsonl: is the disk full?");
    if (r.skipped.empty()) {
      events_->scalar(step, "loss", static_cast<float>(r.loss));
      events_->scalar(step, "learning_rate", static_cast<float>(r.learning_rate));
      events_->scalar(step, "grad_norm", static_cast<float>(r.grad_norm));
    }
    if (line.contains("val_loss")) {
      events_->scalar(step, "val_loss", static_cast<float>(result_.val_loss));
      log_.line(fmt::format("step {}: train loss {:.4f}, validation loss {:.4f}", step + 1, result_.train_loss,
                            result_.val_loss));
    }
    events_->flush();
  }

  double validate() {
    beat("validating");
    int64_t units = in_.validation_units;
    if (in_.config.validation.units > 0) units = std::min(units, in_.config.validation.units);
    return mean_loss(trainer_.model(), *in_.validation, units, in_.config.unit.sequences * in_.config.unit.seq_len,
                     exec_, &comm_);
  }

  void save(int64_t steps) {
    beat("saving");
    writer_->wait();
    note_save();
    const CheckpointState state{steps, tokens_, in_.train->digest(), last_weights_};
    result_.checkpoint = checkpoint_folder(in_.folder, steps);
    writer_->start(steps, [this, state](const BesideTraining& beside) {
      save_checkpoint(in_.folder, trainer_.model(), state, in_.config.checkpoint.keep, in_.extra_model_files, lease_.get(),
                      &beside);
    });
  }

  // The first rank's word on a save that is done, for the next line of metrics.jsonl.
  void note_save(double blocked = 0) {
    auto times = writer_->done();
    if (!times) return;
    times->blocked = std::max(times->blocked, blocked);
    saved_ = times;
    if (first_rank())
      log_.line(fmt::format("checkpoint of step {}: written in {:.2f} s, training waited {:.3f} s", times->step, times->seconds,
                            times->blocked));
  }

  void finish() {
    result_.seconds = busy_;
    result_.tokens_per_second = busy_ > 0 ? static_cast<double>(trained_) / busy_ : 0;
    result_.digest = last_weights_;
    if (!first_rank()) return;
    if (result_.checkpoint.empty())  // resumed when nothing was left to do
      if (auto c = latest_checkpoint(in_.folder, in_.config.schedule.steps, nullptr)) result_.checkpoint = *c;
    metrics_.close();
    lease_->write("report.html", render_report(report_of_run(in_.folder)));
  }

  const RunInputs& in_;
  const kn::Exec& exec_;
  Log& log_;
  const std::unique_ptr<Comm> alone_ = solo_comm();
  Comm& comm_;
  Mesh mesh_;
  Trainer trainer_;
  Guard guard_;
  RunResult result_;
  int64_t first_ = 0, tokens_ = 0, trained_ = 0;
  double busy_ = 0, peak_ = 1, flops_ = 0, seconds_ = 0;  // seconds_: of the last step
  std::string last_weights_;
  std::unique_ptr<RunLease> lease_;  // the first rank's
  std::ofstream metrics_;
  std::unique_ptr<EventWriter> events_;
  std::optional<SaveTimes> saved_;           // not told yet
  std::unique_ptr<CheckpointWriter> writer_;  // the last: it ends before what it writes from
};

}  // namespace

MeshShape mesh_of(const TrainConfig& config, int ranks) {
  const ParallelConfig& p = config.parallel;
  MeshShape s{.pp = static_cast<int>(p.pp), .cp = static_cast<int>(p.cp), .tp = static_cast<int>(p.tp), .ep = static_cast<int>(p.ep)};
  const int64_t others = p.tp * p.pp * p.cp * p.ep;
  check(ranks % others == 0, Code::input, "[train] ", ranks, " ranks do not divide into ", s.text(), " (parallel.{tp,pp,cp,ep}): want a multiple of ",
        others);
  s.dp = static_cast<int>(ranks / others);
  return s;
}

Sharding sharding_of(const TrainConfig& config, int rank, int ranks) {
  return {.rank = rank,
          .ranks = ranks,
          .stage = static_cast<int>(config.parallel.zero),
          .axes = mesh_of(config, ranks),
          .virtual_stages = static_cast<int>(config.parallel.virtual_stages),
          .expert_capacity = config.parallel.expert_capacity};
}

Sharding sharding_of(const TrainConfig& config, const Mesh& mesh) {
  Sharding s = sharding_of(config, mesh.world().rank(), mesh.world().size());
  s.comm = &mesh.world();
  s.mesh = &mesh;
  return s;
}

RunResult train_run(const RunInputs& inputs, const kn::Exec& exec, Log& log) { return Run(inputs, exec, log).go(); }

}  // namespace llmctl
