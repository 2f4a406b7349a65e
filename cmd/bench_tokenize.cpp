// SPDX-License-Identifier: Apache-2.0
// `llmctl bench tokenize`: text to ids in megabytes (10^6 bytes) a second, beside the rate at which memory is
// read; on a text made up and a vocabulary learned from it, or on the files and the tokenizer that are given.
#include <fmt/format.h>

#include "cmd/bench.h"
#include "core/base/clock.h"
#include "data/packed/pack.h"
#include "data/samples/corpus.h"
#include "data/tokenizer/bpe_train.h"
#include "data/tokenizer/piece_counter.h"
#include "data/tokenizer/tokenizer_files.h"

namespace llmctl {
namespace {

void on_made_up_text(Bench& bench) {
  std::string text;
  CorpusOptions options{.seed = 7, .bytes = static_cast<uint64_t>(bench.quick ? 1 : 4) << 20};
  generate_corpus(options, [&](const CorpusDocument& d) { text += d.text; });
  PieceCounter pieces("gpt2");
  const double counting = bench.median([&] {
    pieces = PieceCounter("gpt2");
    pieces.add(text);
  });
  const BpeTrainOptions train{4096, "gpt2"};
  TrainedBpe trained;
  const auto start = Clock::now();
  trained = train_bpe(pieces, train, [](int64_t) {});
  const double training = seconds_since(start);
  const TokenizerFiles files = tokenizer_files(trained, train);
  const Tokenizer tokenizer = Tokenizer::from_json(files.tokenizer, files.config);
  std::vector<int32_t> ids;
  const double encoding = bench.median([&] { ids = tokenizer.encode(text); });
  size_t out = 0;
  const double decoding = bench.median([&] { out = tokenizer.decode(ids).size(); });
  check(out == text.size(), Code::bug, "[bench] decoding gave ", out, " bytes of ", text.size());
  const double mb = static_cast<double>(text.size()) / 1e6, limit = bench.bandwidth() / 1e6;
  bench.add("encode, vocabulary 4096, one thread", mb / encoding, "MB/s", limit);
  bench.add("decode, one thread", mb / decoding, "MB/s", limit);
  bench.add("count pieces, one thread", mb / counting, "MB/s", limit);
  bench.add("learn 4096 tokens from the pieces", training, "s", 0);
}

// A text as a program would give it: in parts of some pages, each with the ids it has in the whole.
std::vector<std::string_view> pages_of(const Tokenizer& tokenizer, std::string_view text) {
  constexpr size_t kPage = size_t{1} << 16;
  std::vector<std::string_view> pages;
  for (size_t at = 0; at < text.size();) {
    const size_t end = text.size() - at > kPage ? tokenizer.cut_after(text, at + kPage) : text.size();
    pages.push_back(text.substr(at, end - at));
    at = end;
  }
  return pages;
}

void on_text(Bench& bench, const Tokenizer& tokenizer, const fs::path& file) {
  const std::string text = read_file(file, uint64_t{1} << 34), name = file.filename().string();
  const std::vector<std::string_view> pages = pages_of(tokenizer, text);
  const double mb = static_cast<double>(text.size()) / 1e6, limit = bench.bandwidth() / 1e6;
  const auto encode_all = [&](EncodeScratch&& scratch) {
    std::vector<int32_t> ids;
    for (const std::string_view page : pages) {
      ids.clear();
      tokenizer.encode(page, {.add_special = false}, scratch, ids);
    }
  };
  const double plain = bench.median([&] { encode_all(EncodeScratch(0)); });
  const double cached = bench.median([&] { encode_all(EncodeScratch()); });
  bench.add(name + ", one thread, no cache", mb / plain, "MB/s", limit);
  bench.add(name + ", one thread, cache of 4 MiB", mb / cached, "MB/s", limit);
  const double threads = bench.median([&] {
    EncodeScratches scratches;
    for_each_index(bench.exec, static_cast<int64_t>(pages.size()), [&](int64_t p) {
      scratches.lend([&](EncodeScratch& scratch) {
        std::vector<int32_t> ids;
        tokenizer.encode(pages[static_cast<size_t>(p)], {.add_special = false}, scratch, ids);
      });
    });
  });
  bench.add(fmt::format("{}, {} threads, caches", name, bench.exec.pool->threads()), mb / threads, "MB/s", limit);
  const OutputFolder scratch(fs::temp_directory_path() / "llmctl-bench", true);  // never committed
  int run = 0;
  const double packing = bench.median([&] {
    const fs::path folder = scratch.path() / std::to_string(run++);
    fs::create_directory(folder);
    pack_documents({file}, tokenizer, folder, {}, bench.exec, nullptr);
    fs::remove_all(folder);
  });
  bench.add(name + ", file to packed shard", mb / packing, "MB/s", limit);
}

}  // namespace

void bench_tokenize(Bench& bench) {
  if (bench.options.tokenizer.empty()) return on_made_up_text(bench);
  const auto start = Clock::now();
  const Tokenizer tokenizer = Tokenizer::load(bench.options.tokenizer);
  bench.add("load the tokenizer", seconds_since(start), "s", 0);
  for (const fs::path& file : expand_inputs(bench.options.inputs)) on_text(bench, tokenizer, file);
}

}  // namespace llmctl
