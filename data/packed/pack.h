// SPDX-License-Identifier: Apache-2.0
// Documents to packed shards: encoded by many threads, written in order, so the same inputs give the
// same bytes for any number of threads. A long text is encoded in parts (Tokenizer::cut_after).
#pragma once

#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "core/base/each_index.h"
#include "data/packed/shard.h"
#include "data/records/documents.h"
#include "data/tokenizer/tokenizer.h"
#include "kernels/exec.h"

namespace llmctl {

struct PackOptions {
  DocumentOptions documents;
  int64_t shard_tokens = int64_t{1} << 28;  // a shard ends with the document that reaches this
  std::string version;                      // of llmctl, for the provenance
};
struct PackResult {
  int64_t shards = 0, documents = 0, tokens = 0, skipped = 0;  // skipped: documents without tokens
  std::string digest;
};
struct PackProgress {
  uint64_t bytes = 0;
  int64_t tokens = 0;
};

// Scratches lent to whoever encodes: at most one per thread is ever made.
class EncodeScratches {
 public:
  template <class Use>
  void lend(Use&& use) {
    EncodeScratch scratch = take();
    use(scratch);
    const std::lock_guard lock(mutex_);
    free_.push_back(std::move(scratch));
  }

 private:
  EncodeScratch take();
  std::mutex mutex_;
  std::vector<EncodeScratch> free_;
};

// The ids of one document: text with what the template adds, or chat turns; then the tokenizer's eos
// when it has one and the ids do not end with it.
std::vector<int32_t> document_ids(const Tokenizer& tokenizer, const Document& document,
                                  EncodeScratches& scratches);

// Fills `folder` (which exists) with shards and provenance.json. `progress` is called now and then
// from the calling thread and may throw to stop. Error{input} when nothing is left to pack.
PackResult pack_documents(const std::vector<fs::path>& inputs, const Tokenizer& tokenizer,
                          const fs::path& folder, const PackOptions& options, const kn::Exec& exec,
                          const std::function<void(const PackProgress&)>& progress);

}  // namespace llmctl
