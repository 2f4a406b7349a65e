// SPDX-License-Identifier: Apache-2.0
// The tensors of a model folder: model.safetensors, or the shards that model.safetensors.index.json
// names. Views live as long as the store.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/io/safetensors.h"

namespace llmctl {

class TensorStore {
 public:
  // Error{input} when the folder has neither file, a shard is missing, or a name stands twice.
  explicit TensorStore(const fs::path& folder);
  bool has(const std::string& name) const { return tensors_.count(name) != 0; }
  View at(const std::string& name) const;
  const std::map<std::string, View>& tensors() const { return tensors_; }
  std::vector<fs::path> files() const;  // in the order of their names
  // Whether the files' names still mean what was mapped, and nobody has written to it since.
  bool unchanged() const;

 private:
  fs::path folder_;
  std::vector<SafeTensors> files_;
  std::map<std::string, View> tensors_;
};

// The view of a mapped file will be read at once: its pages come into this process's memory in one go
// where the system can do that.
void want_pages(const View& mapped);
// The view of a mapped file will not be read again soon: its whole pages leave this process's memory.
void release_pages(const View& mapped);

// Writes model.safetensors, or shards of at most `shard_bytes` with an index, into a folder.
void save_tensors(const fs::path& folder, const std::vector<NamedView>& tensors,
                  int64_t shard_bytes = int64_t{5} << 30);

}  // namespace llmctl
