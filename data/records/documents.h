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

// A document as it lies in a file: a line of JSON, or a text. Reading is quick and of one thread; parsing a
// line is not, and many threads may.
struct RawDocument {
  std::string text;
  uint64_t line = 0;                 // of a line of JSON, from 1; 0 for a text
  bool is_first = true, is_last = true;  // part of its document
};
// Where a text may be cut: the first such place at or after `at`, or its size when there is none yet.
using TextCut = std::function<size_t(std::string_view text, size_t at)>;
// A text (not a line) comes in parts of about `part_bytes` if `cut` allows; 0 for whole.
void read_raw_documents(const fs::path& file, const DocumentOptions& options, size_t part_bytes,
                        const TextCut& cut, const std::function<void(RawDocument&&)>& sink);
// `file` is what an Error{input} names, with the line.
Document parse_document(RawDocument&& raw, const DocumentOptions& options, const fs::path& file);

// Calls `sink` for each document in order. Error{input} naming file and line.
void read_documents(const fs::path& file, const DocumentOptions& options,
                    const std::function<void(Document&&)>& sink);

// The same documents where only their text matters, in parts of about `part_bytes`, so that memory stays
// bounded and threads have work whatever the documents' sizes: cut only where word_start() allows. A part
// begins a document or goes on with the one before. Turns of a chat come as "role\ncontent\n".
void read_text_parts(const fs::path& file, const DocumentOptions& options, size_t part_bytes,
                     const std::function<void(std::string&&)>& sink);

// The first place at or after `at` before a single space that stands between two ASCII letters, or
// text.size(). There every pattern that tokenizers cut by ends a piece and begins one: letters end before a
// space, and a space that a letter follows begins that letter's piece. So the pieces of two parts are those
// of the whole.
size_t word_start(std::string_view text, size_t at);

}  // namespace llmctl
