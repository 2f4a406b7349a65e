// SPDX-License-Identifier: Apache-2.0
// Whether ranks can share a training run the way a config asks for.
#pragma once

#include "core/nn/decoder.h"
#include "core/train/config.h"

namespace llmctl {

// Error{input|unsupported}: the number that does not divide, and what would.
void check_layout(const TrainConfig& config, const DecoderConfig& model, const Sharding& sharding, const kn::Device& device);

}  // namespace llmctl
