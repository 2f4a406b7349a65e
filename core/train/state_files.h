// SPDX-License-Identifier: Apache-2.0
// Masters and moments on disk, by logical name and row: any number of ranks write, any other number read.
//
// state/optimizer.safetensors, or optimizer-00001-of-00004.safetensors and so on: tensors NAME.master,
// NAME.exp_avg, NAME.exp_avg_sq (or NAME.momentum_buffer), f32, PyTorch's names of what AdamW and Muon
// keep. A tensor that is spread over files lies in runs of whole rows; the first row of each is in the
// metadata's "first_row", a JSON object by name (absent: 0).
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/io/safetensors.h"
#include "core/nn/parameters.h"

namespace llmctl {

// This rank's file of the rows it owns (Sharding: an even share of them where all keep all). Returns it.
// written(n): the first n weights of parameters.all() are not read again.
fs::path save_state_file(const fs::path& folder, const Parameters& parameters, const kn::Exec& exec,
                         const std::function<void(size_t)>& written = nullptr);

class StateFiles {
 public:
  // Every state file of the folder. Error{input} for one that is malformed.
  explicit StateFiles(const fs::path& folder);
  // Fills what this rank keeps. Error{input} when the state is of another model, or has holes.
  void read(Parameters& parameters, const kn::Exec& exec) const;
  // A parameter's whole master (rows, cols), in `memory` when it is in pieces. Error{input}. What earlier calls have
  // touched of the files no longer counts as this process's memory; views of it stay valid.
  View master(const Param& p, std::vector<float>& memory) const;

 private:
  struct Run {
    int64_t first_row;
    View rows;
  };
  // Copies rows of the named tensor, of `cols` columns, to `out`.
  void copy(const std::string& name, int64_t cols, int64_t all_rows, const RowRange& rows, float* out) const;
  fs::path folder_;
  std::vector<SafeTensors> files_;
  std::map<std::string, std::vector<Run>> runs_;  // by tensor, in the order of rows
  std::vector<View> mapped_;                      // all tensors of each file
};

}  // namespace llmctl
