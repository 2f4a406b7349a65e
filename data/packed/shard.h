// SPDX-License-Identifier: Apache-2.0
// Packed tokens on disk: Megatron-LM's indexed dataset (megatron/core/datasets/indexed_dataset.py),
// one writer and one reader, with a side file that says where the tokens come from.
//
// NAME.idx, little-endian: "MMIDIDX\0\0", u64 version 1, u8 dtype (4: i32, 8: u16), u64 sequences,
// u64 entries of the document index; i32 length of each sequence, i64 byte offset of each in the
// .bin, i64 document index (first sequence of each document, and the number of sequences last).
// NAME.bin: the tokens. Here one document is one sequence, and eos is its last token when there is
// one. u16 when the vocabulary has at most 65,536 ids, else i32.
//
// A packed folder holds shard-00000.bin/.idx, ... and provenance.json {format, llmctl, tokenizer
// (digest), vocab_size, eos, inputs [{path, digest}], shards [{name, documents, tokens, digest}],
// documents, tokens, digest}.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/base/digest.h"
#include "core/base/file.h"
#include "core/base/json.h"

namespace llmctl {

// Writes PATH.bin and PATH.idx; both appear complete at commit() or not at all.
class ShardWriter {
 public:
  ShardWriter(const fs::path& path, int64_t vocab_size, bool overwrite);
  ~ShardWriter();
  ShardWriter(ShardWriter&&) noexcept;
  // One document. Error{input} for an id outside the vocabulary or an empty document.
  void add(std::span<const int32_t> ids);
  // The same in parts, so that no document need fit into memory: add(a + b) is append(a), append(b),
  // end_document(). What documents() and tokens() count is whole.
  void append(std::span<const int32_t> ids);
  void end_document();
  int64_t documents() const;
  int64_t tokens() const;
  Digest commit();  // of the .idx bytes and the .bin bytes

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// A memory-mapped shard. Every number of the index is checked on opening: Error{input}.
// Threads: const methods from many at once. Copies share the map.
class Shard {
 public:
  explicit Shard(const fs::path& path);  // with or without .bin or .idx
  int64_t documents() const;
  int64_t tokens() const;
  int64_t length(int64_t document) const;
  int64_t offset(int64_t document) const;  // in tokens from the start of the shard
  // Tokens [from, from + out.size()) of a document. Ids are not compared with a vocabulary here.
  void read(int64_t document, int64_t from, std::span<int32_t> out) const;

 private:
  struct State;
  std::shared_ptr<const State> state_;
};

// A packed folder, or one shard given by its file. Error{input} for a folder with a file `unfinished`: `data
// run` puts it there while what its shards are made of may change.
struct PackedCorpus {
  std::vector<Shard> shards;
  std::string tokenizer_digest;  // "" when there is no provenance
  int64_t vocab_size = 0;        // 0 when there is no provenance
  std::optional<int32_t> eos;
  std::string digest;  // of the contents
  int64_t tokens = 0, documents = 0;
};
PackedCorpus open_packed(const fs::path& path);

}  // namespace llmctl
