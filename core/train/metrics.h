// SPDX-License-Identifier: Apache-2.0
// metrics.jsonl, one object per step, keys never renamed: step, loss (nats per target), val_loss
// (when validated after the step), learning_rate, grad_norm (before clipping), tokens (since the
// start of the run), targets (of the step), seconds, tokens_per_second, of_peak (model FLOPs over the
// machine's measured peak, 6 per token and weight that it uses plus causal attention), digest {batch,
// gradient, weights} and tensors (per tensor, in the order of run.json's "tensors": the sum of its
// gradient's and weights' digests); with a mixture of experts router_aux_loss and router_z_loss (before
// their coefficients, core/nn/moe.h). In the line of the first step that ends after a save:
// checkpoint_seconds (from its start to its DONE) and checkpoint_blocked_seconds (of these training waited,
// at the rank that waited longest). The line of a step that the guard did not take (guard.h) has `skipped`,
// the reason, and of what the step came to only targets and the batch's digest; digest.weights are those of
// the step before.
#pragma once

#include <string>
#include <vector>

#include "core/base/file.h"
#include "core/base/json.h"
#include "core/train/trainer.h"

namespace llmctl {

// What the step came to: the line without what the run adds (times, tokens, validation, saves).
Json metrics_line(const StepResult& r);
// metrics.jsonl without the lines of steps at or after `step`: what a resume appends to.
std::string metrics_before(const fs::path& file, int64_t step);
// The last `count` losses in such text, oldest first.
std::vector<double> last_losses(const std::string& metrics, int64_t count);

}  // namespace llmctl
