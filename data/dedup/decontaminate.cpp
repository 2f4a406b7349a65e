// SPDX-License-Identifier: Apache-2.0
#include "data/dedup/decontaminate.h"

#include <algorithm>
#include <bit>
#include <unordered_map>

#include "core/base/each_index.h"
#include "core/base/json.h"
#include "data/dedup/word_hash.h"
#include "data/text/simplify.h"

namespace llmctl {
namespace {

struct Place {
  uint64_t gram;
  uint32_t file, record;
  auto operator<=>(const Place&) const = default;
};

void add_strings(const Json& value, std::vector<std::string>& out) {
  if (value.is_string()) out.push_back(value.get<std::string>());
  if (value.is_structured())
    for (const Json& child : value) add_strings(child, out);
}

}  // namespace

struct EvaluationIndex::State {
  explicit State(const DecontaminateOptions& o) : options(o) {}

  DecontaminateOptions options;
  uint64_t record_count = 0;
  // Grams ascending; those of gram i are owners[first[i]] to owners[first[i + 1]].
  std::vector<uint64_t> grams;
  std::vector<uint32_t> first, owners;               // owners: numbers of records
  std::vector<std::pair<uint32_t, uint32_t>> names;  // (file, line) of a record
  std::vector<uint32_t> gram_count;                  // of a record
  std::vector<uint32_t> lengths;                     // of grams, ascending
  // Open addressing over grams: their number + 1, 0 for none. A power of two, at most half full.
  std::vector<uint32_t> slots;
  // A bit for the top bits of each gram, 16 bits a gram and more: most questions end in this small table.
  std::vector<uint64_t> seen;
  int shift = 0;

  void add_file(const fs::path& path, uint32_t file, std::vector<Place>& places);
  void add_passage(const std::string& passage, uint32_t record, std::vector<Place>& places);
  void build(std::vector<Place>& places);
  void fill_slots();
  uint32_t find(uint64_t gram) const {  // number + 1
    const uint64_t bit = gram >> shift;
    if ((seen[bit / 64] >> (bit % 64) & 1) == 0) return 0;
    const size_t mask = slots.size() - 1;
    for (size_t at = gram & mask;; at = (at + 1) & mask)
      if (slots[at] == 0 || grams[slots[at] - 1] == gram) return slots[at];
  }
};

void EvaluationIndex::State::add_passage(const std::string& passage, uint32_t record,
                                         std::vector<Place>& places) {
  std::vector<uint64_t> hashes;
  hash_words(simplify_text(passage), hashes);
  if (hashes.size() < std::min(options.min_words, options.n)) return;
  const auto n = static_cast<uint32_t>(std::min<size_t>(hashes.size(), options.n));
  if (std::find(lengths.begin(), lengths.end(), n) == lengths.end()) lengths.push_back(n);
  for_each_gram(hashes, n, [&](uint64_t gram) { places.push_back({gram, names[record].first, record}); });
}

void EvaluationIndex::State::add_file(const fs::path& path, uint32_t file, std::vector<Place>& places) {
  ByteReader reader(path);
  std::string line;
  for (uint32_t number = 0; reader.line(line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const Json json = parse_json(line, path.string() + " line " + std::to_string(number + 1));
    check(json.is_object(), Code::input, "[decontaminate] ", path.string(), " line ", number + 1,
          ": not a JSON object, as every line of an evaluation file must be");
    check(record_count < UINT32_MAX, Code::unsupported, "[decontaminate] more than ", UINT32_MAX, " records");
    names.emplace_back(file, number);
    std::vector<std::string> passages;
    add_strings(json, passages);
    for (const std::string& passage : passages)
      add_passage(passage, static_cast<uint32_t>(record_count), places);
    ++record_count;
  }
}

void EvaluationIndex::State::build(std::vector<Place>& places) {
  std::sort(places.begin(), places.end());
  places.erase(std::unique(places.begin(), places.end()), places.end());
  gram_count.assign(record_count, 0);
  std::sort(lengths.begin(), lengths.end());
  for (size_t begin = 0, end = 0; begin < places.size(); begin = end) {
    while (end < places.size() && places[end].gram == places[begin].gram) ++end;
    if (end - begin > options.max_records) continue;
    grams.push_back(places[begin].gram);
    first.push_back(static_cast<uint32_t>(owners.size()));
    for (size_t i = begin; i < end; ++i) {
      owners.push_back(places[i].record);
      ++gram_count[places[i].record];
    }
  }
  check(owners.size() < UINT32_MAX, Code::unsupported, "[decontaminate] more than ", UINT32_MAX, " grams");
  first.push_back(static_cast<uint32_t>(owners.size()));
  fill_slots();
}

void EvaluationIndex::State::fill_slots() {
  slots.assign(std::bit_ceil(grams.size() * 2 + 2), 0);
  const size_t mask = slots.size() - 1;
  const uint64_t bits = std::bit_ceil(std::max<uint64_t>(grams.size() * 16, 64));
  seen.assign(bits / 64, 0);
  shift = 64 - std::countr_zero(bits);
  for (size_t i = 0; i < grams.size(); ++i) {
    seen[(grams[i] >> shift) / 64] |= uint64_t{1} << ((grams[i] >> shift) % 64);
    size_t at = grams[i] & mask;
    while (slots[at] != 0) at = (at + 1) & mask;
    slots[at] = static_cast<uint32_t>(i) + 1;
  }
}

EvaluationIndex::EvaluationIndex(const std::vector<fs::path>& files, const DecontaminateOptions& options) {
  check(options.n >= 1 && options.n <= 1024 && options.min_words >= 1, Code::usage,
        "[decontaminate] grams of ", options.n, " words and passages of ", options.min_words,
        ", 1 to 1024 is possible");
  auto state = std::make_unique<State>(options);
  std::vector<Place> places;
  for (size_t f = 0; f < files.size(); ++f) state->add_file(files[f], static_cast<uint32_t>(f), places);
  state->build(places);
  state_ = std::move(state);
}
EvaluationIndex::~EvaluationIndex() = default;

uint64_t EvaluationIndex::records() const {
  return state_->record_count;
}
uint64_t EvaluationIndex::grams() const {
  return state_->grams.size();
}
uint64_t EvaluationIndex::unsearchable() const {
  return static_cast<uint64_t>(std::count(state_->gram_count.begin(), state_->gram_count.end(), 0u));
}
uint64_t EvaluationIndex::memory_bytes() const {
  const State& s = *state_;
  return 8 * (s.grams.size() + s.names.size() + s.seen.size()) +
         4 * (s.first.size() + s.owners.size() + s.gram_count.size() + s.slots.size());
}

Contamination EvaluationIndex::find(const DedupText& document) const {
  const State& s = *state_;
  std::vector<uint32_t> hits;  // gram numbers
  std::vector<uint64_t> hashes;
  hash_words(simplify_text(document.text), hashes);
  for (const uint32_t n : s.lengths)
    for_each_gram(hashes, n, [&](uint64_t gram) {
      const uint32_t found = s.find(gram);
      // A text that repeats itself would fill memory with one gram.
      if (found != 0 && (hits.empty() || hits.back() != found - 1)) hits.push_back(found - 1);
    });
  std::sort(hits.begin(), hits.end());
  hits.erase(std::unique(hits.begin(), hits.end()), hits.end());
  std::unordered_map<uint32_t, uint32_t> of_record;
  for (const uint32_t hit : hits)
    for (uint32_t i = s.first[hit]; i < s.first[hit + 1]; ++i) ++of_record[s.owners[i]];
  Contamination out;
  out.id = document.id;
  out.records = static_cast<uint32_t>(of_record.size());
  uint32_t best = UINT32_MAX;
  for (const auto& [record, grams] : of_record) {
    const double overlap = static_cast<double>(grams) / s.gram_count[record];
    if (overlap < out.overlap || (overlap == out.overlap && record > best)) continue;
    best = record;  // records are numbered by (file, line)
    out.overlap = overlap, out.grams = grams;
    out.file = s.names[record].first, out.record = s.names[record].second;
  }
  return out;
}

std::vector<Contamination> EvaluationIndex::find_all(std::span<const DedupText> batch,
                                                     const kn::Exec& exec) const {
  std::vector<Contamination> all(batch.size());
  for_each_index(exec, static_cast<int64_t>(batch.size()),
                 [&](int64_t i) { all[static_cast<size_t>(i)] = find(batch[static_cast<size_t>(i)]); });
  std::erase_if(all, [](const Contamination& c) { return c.records == 0; });
  return all;
}

}  // namespace llmctl
