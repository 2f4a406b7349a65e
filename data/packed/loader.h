// SPDX-License-Identifier: Apache-2.0
// Rows of tokens for training and evaluation, cut from packed shards.
//
// Training: in each epoch the documents are put in a keyed order and laid end to end; the ring of
// tokens is turned by a keyed amount and cut into rows of `seq`; the rows are read in a keyed order.
// So every token of the corpus is an input exactly once per epoch, and row g of the run is a function
// of (data, seed, g): a resume needs the step number alone.
//
// In a row a document begins at each of doc_starts (the part of a document cut by the row's start
// counts from 0 again). A document's last token - its eos - is a target; the first token of the next
// document is not: there the target is -1. The last row of an epoch is filled up with id 0 as a
// document of its own without targets.
#pragma once

#include <memory>
#include <mutex>

#include "core/train/batch.h"
#include "data/packed/counter_random.h"
#include "data/packed/shard.h"

namespace llmctl {

// The documents of a corpus end to end, in the corpus's order or a keyed one.
// Threads: const after construction.
class TokenStream {
 public:
  explicit TokenStream(std::shared_ptr<const PackedCorpus> corpus);
  TokenStream(std::shared_ptr<const PackedCorpus> corpus, uint64_t key);
  int64_t tokens() const { return starts_.back(); }
  // One row: `count` inputs from stream position `at` on (turning over at the end), the rest padding.
  // Appends seq tokens and targets and one list of starts to `out`.
  void row(int64_t at, int64_t count, int64_t seq, Batch& out) const;

 private:
  void index(const Permutation* order);
  int64_t document_at(int64_t place) const;
  void read(int64_t document, int64_t from, std::span<int32_t> out) const;
  std::shared_ptr<const PackedCorpus> corpus_;
  std::vector<int64_t> starts_;        // of the document at each place; the number of tokens last
  std::vector<int64_t> shard_starts_;  // first document of each shard
  std::vector<Permutation> order_;     // none or one
};

struct LoaderOptions {
  int64_t seq = 0, rows_per_unit = 1, units_per_step = 1;
  uint64_t seed = 0;
};

class PackedSource final : public BatchSource {
 public:
  // Error{input} when there are no tokens, Error{usage} for sizes below 1.
  PackedSource(PackedCorpus corpus, const LoaderOptions& options);
  void read(int64_t step, int64_t unit, Batch& out) const override;
  std::string digest() const override { return corpus_->digest; }
  int64_t tokens() const override { return corpus_->tokens; }
  int64_t rows_per_epoch() const { return rows_; }
  const PackedCorpus& corpus() const { return *corpus_; }

 private:
  struct Epoch {
    int64_t number;
    TokenStream stream;
    Permutation rows;
    int64_t turn;
  };
  std::shared_ptr<const Epoch> epoch(int64_t number) const;
  std::shared_ptr<const PackedCorpus> corpus_;
  LoaderOptions options_;
  int64_t rows_ = 0;
  mutable std::mutex mutex_;
  mutable std::shared_ptr<const Epoch> recent_[2];
};

// Every token of the corpus in order, each predicted once: windows of `seq` inputs, `stride` apart;
// with stride < seq the targets of the overlap are -1. Unit u holds the windows u*rows_per_unit and
// on (fewer in the last); step is not used.
class SequentialSource final : public BatchSource {
 public:
  SequentialSource(PackedCorpus corpus, int64_t seq, int64_t stride, int64_t rows_per_unit);
  void read(int64_t step, int64_t unit, Batch& out) const override;
  std::string digest() const override { return corpus_->digest; }
  int64_t tokens() const override { return corpus_->tokens; }
  int64_t units() const;

 private:
  std::shared_ptr<const PackedCorpus> corpus_;
  TokenStream stream_;
  int64_t seq_, stride_, rows_per_unit_, windows_ = 0;
};

}  // namespace llmctl
