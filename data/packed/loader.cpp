// SPDX-License-Identifier: Apache-2.0
#include "data/packed/loader.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/base/digest.h"

namespace llmctl {

// ---------------------------------------------------------------- stream

TokenStream::TokenStream(std::shared_ptr<const PackedCorpus> corpus) : corpus_(std::move(corpus)) {
  index(nullptr);
}

TokenStream::TokenStream(std::shared_ptr<const PackedCorpus> corpus, uint64_t key)
    : corpus_(std::move(corpus)) {
  order_.emplace_back(static_cast<uint64_t>(corpus_->documents), key);
  index(&order_[0]);
}

void TokenStream::index(const Permutation* order) {
  std::vector<int64_t> lengths;
  lengths.reserve(static_cast<size_t>(corpus_->documents));
  for (const Shard& shard : corpus_->shards) {
    shard_starts_.push_back(static_cast<int64_t>(lengths.size()));
    for (int64_t d = 0; d < shard.documents(); ++d) lengths.push_back(shard.length(d));
  }
  starts_.reserve(lengths.size() + 1);
  starts_.push_back(0);
  for (uint64_t place = 0; place < lengths.size(); ++place)
    starts_.push_back(starts_.back() + lengths[order ? (*order)(place) : place]);
}

int64_t TokenStream::document_at(int64_t place) const {
  return order_.empty() ? place : static_cast<int64_t>(order_[0](static_cast<uint64_t>(place)));
}

void TokenStream::read(int64_t document, int64_t from, std::span<int32_t> out) const {
  const auto next = std::upper_bound(shard_starts_.begin(), shard_starts_.end(), document);
  const auto shard = static_cast<size_t>(next - shard_starts_.begin() - 1);
  corpus_->shards[shard].read(document - shard_starts_[shard], from, out);
}

void TokenStream::row(int64_t at, int64_t count, int64_t seq, Batch& out) const {
  std::vector<int32_t> part;
  std::vector<int32_t>& starts = out.doc_starts.emplace_back();
  const size_t end = out.tokens.size() + static_cast<size_t>(seq);
  int64_t done = 0;
  while (done < count) {
    const auto place = std::upper_bound(starts_.begin(), starts_.end(), at) - starts_.begin() - 1;
    const int64_t from = at - starts_[static_cast<size_t>(place)];
    const int64_t left = starts_[static_cast<size_t>(place) + 1] - at;
    const int64_t take = std::min(left, count - done);
    part.resize(static_cast<size_t>(std::min(left, take + 1)));
    read(document_at(place), from, part);
    starts.push_back(static_cast<int32_t>(done));
    out.tokens.insert(out.tokens.end(), part.begin(), part.begin() + take);
    out.targets.insert(out.targets.end(), part.begin() + 1, part.end());
    if (take == left) out.targets.push_back(-1);
    done += take;
    at = (at + take) % tokens();
  }
  if (done < seq) starts.push_back(static_cast<int32_t>(done));
  out.tokens.resize(end, 0);
  out.targets.resize(end, -1);
}

// ---------------------------------------------------------------- training

namespace {

// Streams of randomness under one seed.
enum : uint64_t { kDocuments = 1, kRows = 2, kTurn = 3, kMixture = 4 };

uint64_t key_of(uint64_t seed, uint64_t stream, int64_t epoch) {
  return keyed_bits(keyed_bits(seed, stream), static_cast<uint64_t>(epoch));
}

std::shared_ptr<const PackedCorpus> shared(PackedCorpus corpus) {
  check(corpus.tokens > 0, Code::input, "[loader] the packed corpus has no tokens");
  return std::make_shared<const PackedCorpus>(std::move(corpus));
}

}  // namespace

PackedRows::PackedRows(PackedCorpus corpus, int64_t seq, uint64_t seed)
    : corpus_(shared(std::move(corpus))),
      seq_(seq),
      rows_((corpus_->tokens + seq - 1) / seq),
      seed_(seed),
      recent_(std::make_unique<Recent>()) {}

std::shared_ptr<const PackedRows::Epoch> PackedRows::epoch(int64_t number) const {
  const std::lock_guard lock(recent_->mutex);
  auto& slot = recent_->epochs[number % 2];
  if (!slot || slot->number != number) {
    const uint64_t turn = key_of(seed_, kTurn, number) % static_cast<uint64_t>(corpus_->tokens);
    slot = std::make_shared<const Epoch>(Epoch{
        number, TokenStream(corpus_, key_of(seed_, kDocuments, number)),
        Permutation(static_cast<uint64_t>(rows_), key_of(seed_, kRows, number)), static_cast<int64_t>(turn)});
  }
  return slot;
}

void PackedRows::append(int64_t g, Batch& out) const {
  const auto now = epoch(g / rows_);
  const auto row = static_cast<int64_t>(now->rows(static_cast<uint64_t>(g % rows_)));
  const int64_t count = std::min(seq_, corpus_->tokens - row * seq_);
  now->stream.row((now->turn + row * seq_) % corpus_->tokens, count, seq_, out);
}

Mixture::Mixture(const std::vector<double>& weights, uint64_t seed) : seed_(seed) {
  check(!weights.empty() && static_cast<int64_t>(weights.size()) <= kBlock, Code::usage, "[loader] ",
        weights.size(), " parts of a mixture, 1 to ", kBlock, " are read");
  double sum = 0;
  for (const double w : weights) {
    check(std::isfinite(w) && w > 0, Code::usage, "[loader] a weight of ", w,
          " in a mixture: give numbers above 0");
    sum += w;
  }
  std::vector<std::pair<double, size_t>> left;  // what rounding down took, most first
  int64_t dealt = 0;
  for (size_t k = 0; k < weights.size(); ++k) {
    const double share = weights[k] / sum * kBlock;
    counts_.push_back(std::max<int64_t>(1, static_cast<int64_t>(share)));
    dealt += counts_.back();
    left.emplace_back(static_cast<double>(counts_.back()) - share, k);
  }
  std::sort(left.begin(), left.end());
  for (size_t i = 0; dealt < kBlock; ++dealt) ++counts_[left[i++ % left.size()].second];
  // Parts that got their one row for less than a row's share: the largest give it.
  for (; dealt > kBlock; --dealt) --*std::max_element(counts_.begin(), counts_.end());
  int64_t start = 0;
  for (const int64_t count : counts_) starts_.push_back(std::exchange(start, start + count));
}

Mixture::Place Mixture::at(int64_t row) const {
  const int64_t block = row / kBlock;
  const Permutation order(kBlock, key_of(seed_, kMixture, block));
  const auto slot = static_cast<int64_t>(order(static_cast<uint64_t>(row % kBlock)));
  const auto part =
      static_cast<size_t>(std::upper_bound(starts_.begin(), starts_.end(), slot) - starts_.begin()) - 1;
  return {part, block * counts_[part] + slot - starts_[part]};
}

namespace {

std::vector<PackedPart> one_part(PackedCorpus corpus) {
  std::vector<PackedPart> parts;
  parts.push_back({std::move(corpus), 1});
  return parts;
}

}  // namespace

PackedSource::PackedSource(PackedCorpus corpus, const LoaderOptions& options)
    : PackedSource(one_part(std::move(corpus)), options) {}

PackedSource::PackedSource(std::vector<PackedPart> parts, const LoaderOptions& options) : options_(options) {
  check(options.seq > 0 && options.rows_per_unit > 0 && options.units_per_step > 0, Code::usage,
        "[loader] sequence length ", options.seq, ", rows ", options.rows_per_unit, ", units ",
        options.units_per_step, ": each must be at least 1");
  std::vector<double> weights;
  for (PackedPart& part : parts) {
    const PackedCorpus& first = parts_.empty() ? part.corpus : parts_[0].corpus();
    check(part.corpus.tokenizer_digest == first.tokenizer_digest, Code::input, "[loader] part ",
          parts_.size() + 1, " of the mixture was packed by tokenizer ", part.corpus.tokenizer_digest,
          ", the first by ", first.tokenizer_digest);
    weights.push_back(part.weight);
    parts_.emplace_back(std::move(part.corpus), options.seq, options.seed);
    tokens_ += parts_.back().corpus().tokens;
  }
  const Mixture mixture(weights, options.seed);
  digest_ = parts_[0].corpus().digest;
  if (parts_.size() == 1) return;
  mixture_ = mixture;
  std::string text;
  for (size_t k = 0; k < parts_.size(); ++k)
    text += parts_[k].corpus().digest + " " + std::to_string(mixture.rows_of_block()[k]) + "\n";
  digest_ = digest_of(text).hex();
}

void PackedSource::read(int64_t step, int64_t unit, Batch& out) const {
  check(step >= 0 && unit >= 0 && unit < options_.units_per_step, Code::bug, "[loader] step ", step, " unit ",
        unit);
  out = Batch{.rows = options_.rows_per_unit, .seq = options_.seq};
  const int64_t first = (step * options_.units_per_step + unit) * options_.rows_per_unit;
  for (int64_t g = first; g < first + options_.rows_per_unit; ++g) {
    const Mixture::Place place = mixture_ ? mixture_->at(g) : Mixture::Place{0, g};
    parts_[place.part].append(place.row, out);
  }
}

// ---------------------------------------------------------------- evaluation

SequentialSource::SequentialSource(PackedCorpus corpus, int64_t seq, int64_t stride, int64_t rows_per_unit)
    : corpus_(shared(std::move(corpus))),
      stream_(corpus_),
      seq_(seq),
      stride_(stride),
      rows_per_unit_(rows_per_unit) {
  check(seq > 0 && stride > 0 && stride <= seq && rows_per_unit > 0, Code::usage, "[loader] windows of ", seq,
        " tokens with stride ", stride, ": the stride must be in 1..", seq);
  windows_ = 1 + (std::max<int64_t>(0, corpus_->tokens - seq) + stride - 1) / stride;
}

int64_t SequentialSource::units() const {
  return (windows_ + rows_per_unit_ - 1) / rows_per_unit_;
}

void SequentialSource::read(int64_t /*step*/, int64_t unit, Batch& out) const {
  check(unit >= 0 && unit < units(), Code::bug, "[loader] unit ", unit, " of ", units());
  const int64_t first = unit * rows_per_unit_, last = std::min(windows_, first + rows_per_unit_);
  out = Batch{.rows = last - first, .seq = seq_};
  for (int64_t w = first; w < last; ++w) {
    stream_.row(w * stride_, std::min(seq_, corpus_->tokens - w * stride_), seq_, out);
    const auto row = out.targets.end() - seq_;
    if (w > 0) std::fill(row, row + (seq_ - stride_), -1);
  }
}

}  // namespace llmctl
