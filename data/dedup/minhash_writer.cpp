// SPDX-License-Identifier: Apache-2.0
#include "core/base/each_index.h"
#include "core/base/minhash.h"
#include "data/dedup/minhash_file.h"
#include "data/dedup/shingles.h"
#include "data/dedup/verdict_sort.h"

namespace llmctl {

MinhashOptions minhash_preset(std::string_view name) {
  constexpr auto words = ShingleUnit::words, characters = ShingleUnit::characters;
  if (name == "fineweb") return {words, 5, 14, 8, 0.72};
  if (name == "rpv2") return {words, 13, 9, 13, 0.8};
  if (name == "dolma3") return {words, 5, 26, 11, 0.8};
  if (name == "curator") return {characters, 24, 20, 13, 0.8};
  if (name == "verified") return {words, 5, 16, 7, 0.75};
  throw Error(Code::usage, "[minhash] preset " + std::string(name) +
                               ": no such preset; there are fineweb, rpv2, dolma3, curator, verified");
}

struct MinhashWriter::State {
  OutputFile file;
  MinhashOptions options;
  kn::Exec exec;
  MinhashFunctions functions;
  MinhashEnd end;
};

namespace {

MinhashOptions checked(const MinhashOptions& o) {
  check(o.n >= 1 && o.n <= 1024, Code::usage, "[minhash] shingles of ", o.n, ", 1 to 1024 is possible");
  check(o.bands >= 1 && o.rows >= 1 && uint64_t{o.bands} * o.rows <= 1024, Code::usage, "[minhash] ", o.bands,
        " x ", o.rows, " hashes, 1 to 1024 is possible");
  check(o.threshold >= 0 && o.threshold <= 1, Code::usage, "[minhash] threshold ", o.threshold,
        ", 0 to 1 is possible");
  check(o.representatives >= 1, Code::usage, "[minhash] representatives 0, at least 1 is needed");
  return o;
}

// Equal rows in different bands are different keys.
uint64_t band_key(const uint32_t* minima, uint32_t rows, uint32_t band) {
  const Digest d = digest_of(minima, 4 * uint64_t{rows});
  return d.low ^ (d.high + band) * 0x9E3779B97F4A7C15u;
}

}  // namespace

MinhashWriter::MinhashWriter(const fs::path& file, const MinhashOptions& options, const kn::Exec& exec,
                             bool overwrite)
    : state_(new State{{file, overwrite},
                       checked(options),
                       exec,
                       {int64_t{options.bands} * options.rows, options.seed},
                       {}}) {
  const MinhashHeader header = header_of(options);
  state_->file.write(&header, sizeof header);
  state_->end.digest = digest_of(&header, sizeof header);
}
MinhashWriter::~MinhashWriter() = default;

void MinhashWriter::add(std::span<const DedupText> batch) {
  State& s = *state_;
  std::vector<std::string> entries(batch.size());
  std::vector<uint64_t> checks(batch.size());
  for_each_slice(s.exec, batch.size(), 8, [&](size_t first, size_t last) {
    Shingler shingler(s.options);
    MinhashDocument document;
    std::vector<uint32_t> minima;
    for (size_t i = first; i < last; ++i) {
      check_priority(batch[i]);
      document.entry = {batch[i].id, batch[i].priority, 0, 0};
      document.shingles = shingler.shingles(batch[i].text);
      if (document.shingles.empty()) continue;
      s.functions.minima(s.exec.isa, document.shingles, minima);
      document.keys.clear();
      for (uint32_t b = 0; b < s.options.bands; ++b)
        document.keys.push_back(band_key(minima.data() + size_t{b} * s.options.rows, s.options.rows, b));
      entries[i] = entry_text(document);
      checks[i] = document.entry.check;
    }
  });
  for (size_t i = 0; i < batch.size(); ++i) {
    ++s.end.documents;
    s.end.empty += entries[i].empty();
    if (entries[i].empty()) continue;
    s.file.write(entries[i]);
    s.end.digest = chained(s.end.digest, checks[i]);
  }
}

uint64_t MinhashWriter::documents() const {
  return state_->end.documents;
}

std::string MinhashWriter::commit() {
  MinhashEnd& end = state_->end;
  end.digest = chained(chained(end.digest, end.documents), end.empty);
  state_->file.write(&state_->end, sizeof state_->end);
  state_->file.commit();
  return state_->end.digest.hex();
}

}  // namespace llmctl
