// SPDX-License-Identifier: Apache-2.0
// Checkpoints of a run: RUN/checkpoints/step-N/{model/, state/, DONE}. model/ is a Hugging Face
// folder; state/ holds fp32 masters and moments by logical name (state_files.h) and state.json. The folder is
// filled in the lease's staging folder (lease.h), DONE is written last, with the digest of every file, and
// then it is renamed: a checkpoint without a DONE that matches is not a checkpoint, and one of an older
// epoch cannot appear.
#pragma once

#include <functional>
#include <optional>

#include "core/models/model.h"
#include "core/train/lease.h"
#include "core/train/save_gate.h"

namespace llmctl {

struct CheckpointState {
  int64_t step = 0;    // steps done; the next one to run
  int64_t tokens = 0;  // seen so far
  std::string data_digest;
  std::string weights_digest;  // of the last step, "" when digests are off
};

// What a save has of its own that runs beside training (checkpoint_writer.h).
struct BesideTraining {
  Comm* comm = nullptr;      // of the run's ranks, used by nobody else meanwhile
  SaveGate* gate = nullptr;  // hears what is written
  kn::Exec exec;
};

// `extra` writes further files into model/ (the tokenizer). Keeps the newest `keep` (0: all).
// Returns the checkpoint's folder. Collective over the ranks that share the model's state, which see one
// file system: each writes the rows it owns, the first the rest; DONE is written when all have. The first
// rank's lease; none: one for this call. Error{device} when a newer epoch of the run has begun.
fs::path save_checkpoint(const fs::path& run, const Model& model, const CheckpointState& state, int64_t keep,
                         const std::function<void(const fs::path&)>& extra, RunLease* lease = nullptr,
                         const BesideTraining* beside = nullptr);
// Where it will be.
fs::path checkpoint_folder(const fs::path& run, int64_t step);

// The newest complete checkpoint at or before `at_most` steps. A damaged one is skipped with a call of
// `warn` that names it. For one rank; it tells the others.
std::optional<fs::path> latest_checkpoint(const fs::path& run, int64_t at_most,
                                          const std::function<void(const std::string&)>& warn);
// Steps of the newest checkpoint that has a DONE, unread; -1: none.
int64_t newest_done(const fs::path& run);
// Masters, moments and the compute copy from a checkpoint, whatever ranks it was written by. Error{input}
// when it is of another model. Collective.
CheckpointState load_checkpoint(const fs::path& checkpoint, Model& model, const kn::Exec& exec);

}  // namespace llmctl
