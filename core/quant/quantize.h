// SPDX-License-Identifier: Apache-2.0
// A model folder to a compressed-tensors folder. With calibration rows by GPTQ, block by block, each
// block seeing the activations of the quantised blocks before it; without, by a search of each
// group's scale. Embedding and LM head stay as they are.
#pragma once

#include <functional>

#include "core/quant/row_pass.h"

namespace llmctl {

struct QuantizeOptions {
  int bits = 8;          // 8 or 4
  int64_t group = 0;     // 0: 128 at 8 bits, 32 at 4 bits; else a multiple of 32
  TokenRows calibration;  // may be empty
  std::function<void(int64_t done, int64_t total)> progress = nullptr;  // in matrices
};

struct QuantizeResult {
  int64_t group = 0;
  int64_t matrices = 0, quantised_weights = 0, weights = 0;  // elements, of those and of all
  int64_t quantised_bits = 0;  // of the quantised matrices, scales included
  bool even_groups = true;     // false: some matrix's columns are no multiple of the group, which
                               // other readers may refuse
};

// `model` is the inference model loaded from `source`; its weights become the quantised ones
// (dequantised) as it goes, so it is used up. Writes the weights and config.json into `out`, an
// existing folder, and copies the other files of `source` that belong to a model. Error{unsupported}
// for a model that is quantised already or stores its linears transposed (GPT-2): the layout has no
// form for those; Error{input} from calibration.
QuantizeResult quantise_folder(const fs::path& source, Model& model, const fs::path& out,
                               const QuantizeOptions& options, const kn::Exec& exec);

}  // namespace llmctl
