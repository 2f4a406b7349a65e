// SPDX-License-Identifier: Apache-2.0
// The safetensors format (huggingface/safetensors): 8 bytes little-endian header length, a JSON
// header {name: {dtype, shape, data_offsets}}, then the bytes. The reader maps the file and trusts
// nothing in the header: lengths, offsets, holes, overlaps, shapes and dtypes are checked before
// any view is handed out (Error{input} naming file and tensor).
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/base/file.h"
#include "kernels/view.h"

namespace llmctl {

using kn::DType;
using kn::View;

class SafeTensors {
 public:
  explicit SafeTensors(const fs::path& path);
  // Views live as long as this object or a copy of it. Error{input} for an unknown name.
  View at(const std::string& name) const;
  bool has(const std::string& name) const { return tensors_.count(name) != 0; }
  const std::map<std::string, View>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const fs::path& path() const { return path_; }
  const FileIdentity& identity() const { return map_.identity(); }

 private:
  fs::path path_;
  FileMap map_;
  std::map<std::string, View> tensors_;
  std::map<std::string, std::string> metadata_;
};

// A tensor to write: bytes at view.data, or produced by `fill` into a buffer of view.bytes() when
// its turn comes, so that saving needs the memory of one tensor. `written` is called when it is not read again.
struct NamedView {
  std::string name;
  View view;
  std::function<void(void*)> fill = nullptr;
  std::function<void()> written = nullptr;
};
// Written in the given order, 64-byte aligned start, through OutputFile (whole or not at all).
void save_safetensors(const fs::path& path, const std::vector<NamedView>& tensors,
                      const std::map<std::string, std::string>& metadata, bool overwrite);

}  // namespace llmctl
