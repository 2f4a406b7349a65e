// SPDX-License-Identifier: Apache-2.0
// The metadata of a GGUF file, versions 2 and 3 (ggml's docs/gguf.md): keys with typed values, lists of
// them among others. Tensors are not read here. Every length is checked against the file.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/base/file.h"

namespace llmctl {

class GgufMetadata {
 public:
  using Value = std::variant<int64_t, double, bool, std::string, std::vector<int64_t>, std::vector<double>,
                             std::vector<std::string>>;  // lists of bool as int64_t

  explicit GgufMetadata(const fs::path& path);  // Error{input|unsupported}
  static GgufMetadata parse(std::string_view bytes, const std::string& who);

  bool has(const std::string& key) const { return values_.contains(key); }
  // Nothing when the key is absent; Error{input} when it is of another type.
  std::optional<std::string> text(const std::string& key) const;
  std::optional<int64_t> integer(const std::string& key) const;
  std::optional<bool> boolean(const std::string& key) const;
  const std::vector<std::string>* texts(const std::string& key) const;  // null when absent
  const std::vector<int64_t>* integers(const std::string& key) const;
  const std::vector<double>* numbers(const std::string& key) const;

 private:
  GgufMetadata() = default;
  template <class T>
  const T* find(const std::string& key, const char* type) const;
  std::string who_;
  std::map<std::string, Value> values_;
};

}  // namespace llmctl
