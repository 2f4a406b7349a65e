// SPDX-License-Identifier: Apache-2.0
// What the name in a GGUF file's tokenizer.ggml.pre stands for: the file holds no pattern, normalizer or
// option itself. Rows follow llama.cpp's table and, where that bends the model's own tokenizer.json, the
// latter (o200k's cases, Qwen's NFC).
#pragma once

#include <string>
#include <vector>

namespace llmctl {

struct GgufPre {
  std::vector<std::string> patterns;  // one after another, each isolates its matches
  bool ignore_merges = false, add_bos = false, nfc = false;
};
// Error{unsupported} for a name that is not in the table, "default" among them: what it stood for when a
// file was written cannot be known.
GgufPre gguf_pre(const std::string& name);

}  // namespace llmctl
