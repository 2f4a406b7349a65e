// SPDX-License-Identifier: Apache-2.0
// Documents from files: JSON lines ({"text": ...} or {"messages": [{"role", "content"}, ...]}) from
// *.jsonl, plain text from anything else, .gz and .zst unpacked. A text file is one document, or
// several when a separator is given.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/base/file.h"
#include "data/tokenizer/chat.h"

namespace llmctl {

struct Document {
  std::string text;  // when there are no messages
  std::vector<ChatMessage> messages;
  uint64_t bytes() const;  // of text, roles and contents
};

struct DocumentOptions {
  std::string field = "text";  // of a JSON line
  std::string split_on;        // separator of documents in text files; "" for none
};

// Calls `sink` for each document in order. Error{input} naming file and line.
void read_documents(const fs::path& file, const DocumentOptions& options,
                    const std::function<void(Document&&)>& sink);

}  // namespace llmctl
