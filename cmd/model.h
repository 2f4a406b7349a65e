// SPDX-License-Identifier: Apache-2.0
// What the objects of `llmctl model` share.
#pragma once

#include "cmd/flags.h"
#include "core/models/model.h"

namespace llmctl {

// The spec of a model folder, with or without weights, or of a config.json. Without weights the
// dtype is config.json's. Rotary scaling is left out of account: it changes no shape.
ModelSpec spec_of_shape(const fs::path& model);
// Whether the folder holds tensors.
bool has_weights(const fs::path& model);

void add_model_inspect(CLI::App& app, Common& common);
void add_model_diff(CLI::App& app, Common& common);
void add_model_convert(CLI::App& app, Common& common);
void add_model_plan(CLI::App& app, Common& common);

}  // namespace llmctl
