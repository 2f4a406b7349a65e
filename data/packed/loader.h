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
#include <optional>
#include <vector>

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

// The rows of one corpus in the order above, epoch after epoch. Threads: const from many at once.
class PackedRows {
 public:
  PackedRows(PackedCorpus corpus, int64_t seq, uint64_t seed);  // Error{input} when there are no tokens
  void append(int64_t row, Batch& out) const;                   // row 0 begins epoch 0
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
  int64_t seq_ = 0, rows_ = 0;
  uint64_t seed_ = 0;
  struct Recent {
    std::mutex mutex;
    std::shared_ptr<const Epoch> epochs[2];
  };
  std::unique_ptr<Recent> recent_;
};

// Corpora by their shares of the rows, which all have the same length. The run's rows are dealt in blocks:
// in each block every part has its count of rows - the share rounded so that the counts add up, at least 1 -
// and a keyed order of the block says whose turn it is. So row g is a function of (parts, seed, g) here too,
// and a part's own rows come in the order they would have without the others.
class Mixture {
 public:
  static constexpr int64_t kBlock = 4096;
  // Weights above 0, of any scale. Error{usage}.
  Mixture(const std::vector<double>& weights, uint64_t seed);
  struct Place {
    size_t part = 0;
    int64_t row = 0;  // of that part
  };
  Place at(int64_t row) const;
  const std::vector<int64_t>& rows_of_block() const { return counts_; }

 private:
  std::vector<int64_t> counts_, starts_;
  uint64_t seed_ = 0;
};

struct PackedPart {
  PackedCorpus corpus;
  double weight = 1;  // share of the rows, and so of the tokens
};

class PackedSource final : public BatchSource {
 public:
  // Error{usage} for sizes below 1, Error{input} for parts without tokens or of different tokenizers.
  PackedSource(std::vector<PackedPart> parts, const LoaderOptions& options);
  PackedSource(PackedCorpus corpus, const LoaderOptions& options);
  void read(int64_t step, int64_t unit, Batch& out) const override;
  std::string digest() const override { return digest_; }
  int64_t tokens() const override { return tokens_; }  // of all parts, once each
  const std::vector<PackedRows>& parts() const { return parts_; }

 private:
  LoaderOptions options_;
  std::vector<PackedRows> parts_;
  std::optional<Mixture> mixture_;  // of two parts or more
  std::string digest_;
  int64_t tokens_ = 0;
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
