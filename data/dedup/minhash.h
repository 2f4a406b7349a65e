// SPDX-License-Identifier: Apache-2.0
// Near duplicates by MinHash and locality-sensitive hashing (Broder 1997; Leskovec, Rajaraman and Ullman,
// ch. 3), every candidate pair verified by the true Jaccard similarity of its shingle sets.
//
// Stage 1, MinhashWriter: documents -> one file of shingle sets and band keys per input file. Such a file
// appears under its name when complete, so a killed run goes on with the files that are missing.
// Stage 2, minhash_clusters(): those files, in any order -> verdicts.
//
// Sets. The text is simplified (data/text/simplify.h), cut into words or code points, and every n of them
// in a row are hashed to 32 bits; a document is the set of those. Two different shingles of a document
// meet with chance 2^-32, so Jaccard values are exact but for 1e-4 up to 400,000 shingles. Fewer than n
// words are one shingle; a document without any word has no set and is in no cluster.
// Signatures. h_i(x) = (a_i x + b_i mod 2^64) >> 32, a_i and b_i 64 random bits from `seed` (multiply-shift,
// strongly universal; Dietzfelbinger 1996), min over the set; rows of a band are hashed to a 64-bit key.
// Candidates. In a bucket (documents with one key) taken in order of (priority, id), the first
// `representatives` different sets represent it: a document is compared with those before it, or with
// the one equal to it alone. So a bucket of m documents costs m * representatives comparisons at most.
// Clusters are the connected components of pairs at `threshold` or more; min (priority, id) survives.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/base/file.h"
#include "data/dedup/verdict.h"
#include "kernels/exec.h"

namespace llmctl {

enum class ShingleUnit : uint32_t { words, characters };

struct MinhashOptions {
  ShingleUnit unit = ShingleUnit::words;
  uint32_t n = 5;                 // words or code points in a shingle
  uint32_t bands = 14, rows = 8;  // rows hashes in each of bands buckets; bands * rows at most 1024
  double threshold = 0.72;        // of verified Jaccard similarity; 0 takes every candidate
  bool digits_to_zero = true;     // of simplify_text()
  uint32_t representatives = 16;
  uint64_t seed = 1;
};
// Published parameters: fineweb (5 words, 14 x 8, .72), rpv2 (13 words, 9 x 13, .8), dolma3 (5 words,
// 26 x 11, .8), curator (24 characters, 20 x 13, .8), and ours: verified (5 words, 16 x 7, .75: false
// candidates are cheap, because they are verified, so the bands may be wider open). The texts of all are
// simplified as FineWeb's are. Error{usage} listing the names.
MinhashOptions minhash_preset(std::string_view name);

// One input file's documents. Threads: add() from one thread; it works on exec's.
class MinhashWriter {
 public:
  // Error{usage} when the file exists and !overwrite.
  MinhashWriter(const fs::path& file, const MinhashOptions& options, const kn::Exec& exec, bool overwrite);
  ~MinhashWriter();
  void add(std::span<const DedupText> batch);  // Error{usage} for a priority above kMaxPriority
  uint64_t documents() const;
  // Returns the hex digest of what is in the file.
  std::string commit();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

struct MinhashClustering {
  fs::path folder;  // for spilled rows; exists
  uint64_t memory_bytes = uint64_t{256} << 20;
};
struct MinhashStats {
  uint64_t documents = 0, empty = 0;
  uint64_t candidates = 0;  // different pairs compared
  uint64_t edges = 0;       // of them at the threshold or above
  uint64_t clusters = 0, removed = 0, largest_cluster = 0;
  uint64_t spilled_bytes = 0;
};
// Memory: memory_bytes; while clusters are made, half of it holds 28 bytes for each document that has a copy
// (Error{memory} says how much it would need). Options must be those the files were written with, but for
// threshold and representatives: Error{input}, as for a file that is cut or damaged, naming it.
MinhashStats minhash_clusters(const std::vector<fs::path>& files, const MinhashOptions& options,
                              const MinhashClustering& where, const kn::Exec& exec, const VerdictSink& sink);

}  // namespace llmctl
