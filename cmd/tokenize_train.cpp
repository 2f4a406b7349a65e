// SPDX-License-Identifier: Apache-2.0
// `llmctl tokenize train`: a byte-level BPE vocabulary from texts, within a stated amount of memory.
#include <fmt/format.h>

#include <atomic>

#include "cmd/tokenize.h"
#include "core/base/clock.h"
#include "data/packed/pack.h"
#include "data/tokenizer/bpe_train.h"
#include "data/tokenizer/tokenizer.h"

namespace llmctl {

uint64_t size_of(const std::vector<fs::path>& inputs) {
  uint64_t bytes = 0;
  for (const fs::path& p : inputs) {
    std::error_code ec;
    const bool plain = p.extension() != ".gz" && p.extension() != ".zst" && fs::is_regular_file(p, ec);
    if (!plain) return 0;
    bytes += fs::file_size(p);
  }
  return bytes;
}

void add_document_flags(CLI::App& app, DocumentOptions& o) {
  app.add_option("--field", o.field, "text field of JSON lines")->capture_default_str();
  app.add_option("--split-on", o.split_on, "separator between documents in text files");
}

namespace {

constexpr size_t kPartBytes = size_t{1} << 20;

struct TrainOptions {
  std::vector<std::string> inputs;
  std::string output, tie_break = "ids";
  DocumentOptions documents;
  BpeTrainOptions bpe{.memory = uint64_t{4} << 30};
  bool force = false;
};

// Texts are dealt to counters by their number, one batch read while the one before is counted: sums do not
// depend on how.
class Counting {
 public:
  Counting(const TrainOptions& o, Common& common, const kn::Exec& exec, uint64_t bytes)
      : exec_(exec), progress_(common.log, "counting pieces", "bytes", bytes) {
    const auto threads = static_cast<uint64_t>(exec.pool ? exec.pool->threads() : 1);
    for (uint64_t t = 0; t < threads; ++t)
      counters_.emplace_back(o.bpe.pattern, o.bpe.memory / 2 / threads, o.bpe.folder);
    all_.emplace_back(o.bpe.pattern, o.bpe.memory / 2, o.bpe.folder);
  }
  void add(std::string&& text) {
    waiting_ += text.size();
    texts_.push_back(std::move(text));
    if (waiting_ >= kBatchBytes) count();
  }
  PieceCounter finish() {
    count();
    for (PieceCounter& counter : counters_) all_[0].merge(std::move(counter));
    progress_.finish();
    return std::move(all_[0]);
  }

 private:
  static constexpr uint64_t kBatchBytes = uint64_t{16} << 20;
  void count() {
    stop_if_interrupted("tokenize train");
    std::atomic<size_t> next{0};
    for_each_index(exec_, static_cast<int64_t>(counters_.size()), [&](int64_t c) {
      for (size_t i; (i = next++) < texts_.size();) counters_[static_cast<size_t>(c)].add(texts_[i]);
    });
    done_ += waiting_;
    waiting_ = 0;
    texts_.clear();
    progress_.update(done_);
  }
  const kn::Exec& exec_;
  Progress progress_;
  std::vector<PieceCounter> counters_, all_;
  std::vector<std::string> texts_;
  uint64_t done_ = 0, waiting_ = 0;
};

TrainedBpe learn(const TrainOptions& o, Common& common, uint64_t& bytes) {
  Runtime runtime(common);
  const std::vector<fs::path> inputs = expand_inputs(o.inputs);
  Counting counting(o, common, runtime.exec, size_of(inputs));
  for (const fs::path& input : inputs)
    read_text_parts(input, o.documents, kPartBytes,
                    [&](std::string&& text) { counting.add(std::move(text)); });
  PieceCounter pieces = counting.finish();
  bytes = pieces.bytes();
  check(bytes > 0, Code::input, "[tokenize] the inputs hold no text");
  Progress progress(common.log, "learning merges", "tokens", static_cast<uint64_t>(o.bpe.vocab_size));
  TrainedBpe trained = train_bpe(pieces, o.bpe, [&](int64_t tokens) {
    if (tokens % 256 != 0) return;
    progress.update(static_cast<uint64_t>(tokens));
    stop_if_interrupted("tokenize train");
  });
  progress.finish();
  return trained;
}

int train(TrainOptions& o, Common& common) {
  const Clock::time_point start = Clock::now();
  o.bpe.tie_break = tie_break_of(o.tie_break);
  OutputFolder folder(o.output, o.force);
  o.bpe.folder = folder.path();
  uint64_t bytes = 0;
  const TokenizerFiles files = tokenizer_files(learn(o, common, bytes), o.bpe);
  const Tokenizer tokenizer = Tokenizer::from_json(files.tokenizer, files.config);
  tokenizer.save(folder.path());
  folder.commit();
  if (tokenizer.vocab_size() < o.bpe.vocab_size)
    common.log.warning(fmt::format("the text gives only {} tokens of the {} asked for",
                                   tokenizer.vocab_size(), o.bpe.vocab_size));
  const double seconds = seconds_since(start);
  print_result(common,
               {{"vocab_size", tokenizer.vocab_size()},
                {"bytes", bytes},
                {"seconds", seconds},
                {"digest", tokenizer.digest()},
                {"output", o.output}},
               fmt::format("{}: {} tokens from {} bytes in {:.1f} s", o.output, tokenizer.vocab_size(), bytes,
                           seconds));
  return 0;
}

}  // namespace

void declare_tokenize_train(CLI::App& verb, Common& common) {
  CLI::App& app = *verb.add_subcommand("train", "learn a byte-level BPE vocabulary");
  auto o = std::make_shared<TrainOptions>();
  app.add_option("input", o->inputs, "files, folders, globs or -")->required();
  app.add_option("--vocab-size", o->bpe.vocab_size, "ids in all: 256, or 259 and more")->required();
  app.add_option("--pattern", o->bpe.pattern, "how text is cut before merging")
      ->check(CLI::IsMember({"gpt2", "cl100k", "o200k", "llama3", "qwen2", "none"}))
      ->capture_default_str();
  app.add_option("--tie-break", o->tie_break, "of pairs as frequent: ids (Hugging Face's trainer) or bytes")
      ->check(CLI::IsMember({"ids", "bytes"}))
      ->capture_default_str();
  app.add_option("--min-frequency", o->bpe.min_frequency, "a pair that is rarer is not joined")
      ->capture_default_str();
  app.add_option("--memory", o->bpe.memory,
                 "bytes for counts and tables, 2GB for example; the rest goes to the disk")
      ->transform(CLI::AsSizeValue(false))
      ->capture_default_str();
  app.add_option("--output", o->output, "folder to make")->required();
  app.add_flag("--force", o->force, "replace the output");
  add_document_flags(app, o->documents);
  examples(app, {"llmctl tokenize train corpus.jsonl --vocab-size 4096 --pattern qwen2 --output tok",
                 "llmctl tokenize train tinyshakespeare.txt --vocab-size 256 --pattern none --output bytes"});
  on_run(app, common, [o, &common] { return train(*o, common); });
}

}  // namespace llmctl
