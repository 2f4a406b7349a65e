// SPDX-License-Identifier: Apache-2.0
#include "data/quality/ngram_file.h"

#include <algorithm>

#include "data/quality/words.h"

namespace llmctl {
namespace {

template <class T>
void append_bytes(std::string& out, const T* values, size_t n) {
  out.append(reinterpret_cast<const char*>(values), n * sizeof(T));
}

std::string vocabulary_bytes(const std::vector<std::string>& words) {
  struct Entry {
    uint64_t hash;
    uint32_t id, zero = 0;
  };
  std::vector<Entry> entries;
  std::vector<uint64_t> offsets = {0};
  for (size_t i = 0; i < words.size(); ++i) {
    entries.push_back({hash_bytes(words[i]), static_cast<uint32_t>(i + 1)});
    offsets.push_back(offsets.back() + words[i].size());
  }
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.hash != b.hash ? a.hash < b.hash : a.id < b.id; });
  std::string out;
  append_bytes(out, entries.data(), entries.size());
  append_bytes(out, offsets.data(), offsets.size());
  for (const std::string& word : words) out += word;
  return out;
}

}  // namespace

NgramVocabulary::NgramVocabulary() : words_{"<unk>", "<s>", "</s>"} {
  for (size_t i = 0; i < words_.size(); ++i) ids_[words_[i]] = static_cast<uint32_t>(i + 1);
}

uint32_t NgramVocabulary::add(std::string_view word) {
  const auto [place, added] = ids_.try_emplace(std::string(word), static_cast<uint32_t>(words_.size() + 1));
  if (added) words_.emplace_back(word);
  return place->second;
}

fs::path NgramWriter::file_of(int n) const {
  return scratch_ / ("nodes-" + std::to_string(n));
}

NgramWriter::NgramWriter(fs::path scratch, int order, NgramUnit unit)
    : scratch_(std::move(scratch)), order_(order), unit_(unit), counts_(static_cast<size_t>(order) + 2) {
  for (int n = 1; n <= order; ++n) {
    files_.push_back(std::fopen(file_of(n).c_str(), "wb"));
    check(files_.back() != nullptr, Code::io, "[ngram] cannot make ", file_of(n).string());
  }
}

NgramWriter::~NgramWriter() {
  for (std::FILE* f : files_)
    if (f != nullptr) std::fclose(f);
  std::error_code ignored;
  for (int n = 1; n <= order_; ++n) fs::remove(file_of(n), ignored);
  fs::remove(scratch_ / "body", ignored);
}

void NgramWriter::add(int n, uint32_t word, float log10_prob, float log10_backoff) {
  const auto i = static_cast<size_t>(n);
  const uint64_t child = counts_[i + 1];
  const NgramNode node{word, log10_prob, log10_backoff, static_cast<uint32_t>(child),
                       static_cast<uint32_t>(child >> 32)};
  check(std::fwrite(&node, sizeof node, 1, files_[i - 1]) == 1, Code::io, "[ngram] cannot write ",
        file_of(n).string(), ": is the disk full?");
  ++counts_[i];
}

void NgramWriter::finish(const NgramVocabulary& vocabulary, const fs::path& model, bool overwrite) {
  Json counts = Json::array();
  for (int n = 1; n <= order_; ++n) counts.push_back(counts_[static_cast<size_t>(n)]);
  const std::string json = json_text({{"order", order_},
                                      {"unit", unit_ == NgramUnit::words ? "words" : "bytes"},
                                      {"ngrams", counts},
                                      {"words", vocabulary.words().size()}});
  const fs::path body = scratch_ / "body";
  {
    OutputFile out(body, true);
    out.write(json);
    for (int n = 1; n <= order_; ++n) {
      const uint64_t children = counts_[static_cast<size_t>(n) + 1];
      const NgramNode end{0, 0, 0, static_cast<uint32_t>(children), static_cast<uint32_t>(children >> 32)};
      std::FILE*& file = files_[static_cast<size_t>(n) - 1];
      const bool flushed =
          std::fwrite(&end, sizeof end, 1, file) == 1 && std::fclose(std::exchange(file, nullptr)) == 0;
      check(flushed, Code::io, "[ngram] cannot write ", file_of(n).string(), ": is the disk full?");
      const FileMap nodes(file_of(n));
      out.write(nodes.data(), nodes.size());
    }
    out.write(vocabulary_bytes(vocabulary.words()));
    out.commit();
  }
  const FileMap bytes(body);
  const Digest digest = digest_of(bytes.data(), bytes.size());
  NgramHeader header;
  header.json_bytes = static_cast<uint32_t>(json.size());
  header.digest_low = digest.low;
  header.digest_high = digest.high;
  OutputFile out(model, overwrite);
  out.write(&header, sizeof header);
  out.write(bytes.data(), bytes.size());
  out.commit();
}

}  // namespace llmctl
