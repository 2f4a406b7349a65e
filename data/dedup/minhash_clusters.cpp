// SPDX-License-Identifier: Apache-2.0
// Stage 2: band keys -> buckets -> candidate pairs -> verified pairs -> clusters, each step a sort.
#include <algorithm>
#include <deque>

#include "core/base/signal.h"
#include "data/dedup/connected.h"
#include "data/dedup/minhash_file.h"
#include "data/dedup/shingles.h"

namespace llmctl {
namespace {

// Priority and place of a document in 64 bits: 20 bits of priority, 44 of the offset / 8 in all files, one
// after the other.
constexpr uint64_t kPlaceBits = 44;
uint64_t packed(uint64_t priority, uint64_t offset) {
  return priority << kPlaceBits | offset / 8;
}
uint64_t offset_of(uint64_t where) {
  return (where & ((uint64_t{1} << kPlaceBits) - 1)) * 8;
}

struct KeyRow {
  uint64_t key, where, id, text;  // text: a hash of the shingles in order
};
struct ByKey {
  bool operator()(const KeyRow& a, const KeyRow& b) const {
    return std::tuple(a.key, a.where >> kPlaceBits, a.id) < std::tuple(b.key, b.where >> kPlaceBits, b.id);
  }
};

struct Member {
  uint64_t where = 0, id = 0;
  bool operator==(const Member&) const = default;
};
struct PairRow {
  Member a, b;  // a stands before b in the files
  bool operator==(const PairRow&) const = default;
};
// Along the files, so that reading goes forward.
struct ByPlace {
  bool operator()(const PairRow& x, const PairRow& y) const {
    const auto places = [](const PairRow& p) {
      return std::pair(offset_of(p.a.where), offset_of(p.b.where));
    };
    return places(x) < places(y);
  }
};

class Clustering {
 public:
  Clustering(const std::vector<fs::path>& paths, const MinhashOptions& options,
             const MinhashClustering& where, const kn::Exec& exec)
      : options_(options),
        where_(where),
        exec_(exec),
        keys_({where.folder, "minhash-keys", where.memory_bytes / 2}, exec),
        pairs_({where.folder, "minhash-candidates", where.memory_bytes / 2}, exec),
        connected_({where.folder, "minhash", where.memory_bytes}, exec) {
    for (const fs::path& path : paths) {
      starts_.push_back(files_.empty() ? 0 : starts_.back() + files_.back().bytes());
      files_.emplace_back(path, options);
      check(starts_.back() + files_.back().bytes() < (uint64_t{8} << kPlaceBits), Code::unsupported,
            "[minhash] the signature files hold more than ", uint64_t{8} << kPlaceBits, " bytes");
    }
  }

  MinhashStats run(const VerdictSink& sink) {
    read_keys();
    find_candidates();
    verify();
    stats_.spilled_bytes = keys_.spilled_bytes() + pairs_.spilled_bytes() + connected_.spilled_bytes();
    const ClusterCounts counts = connected_.finish(sink);
    stats_.spilled_bytes += counts.spilled_bytes;
    stats_.clusters = counts.clusters, stats_.removed = counts.removed,
    stats_.largest_cluster = counts.largest;
    return stats_;
  }

 private:
  void read_keys() {
    MinhashDocument document;
    for (size_t f = 0; f < files_.size(); ++f) {
      for (uint64_t offset = 0; files_[f].next(document, offset);) {
        stop_if_interrupted("minhash");
        const MinhashEntry& e = document.entry;
        const uint64_t text = digest_of(document.shingles.data(), 4 * document.shingles.size()).low;
        for (const uint64_t key : document.keys)
          keys_.add({key, packed(e.priority, starts_[f] + offset), e.id, text});
      }
      stats_.documents += files_[f].end().documents;
      stats_.empty += files_[f].end().empty;
    }
  }

  // The rule of minhash.h: a bucket is led by its first different texts.
  void find_candidates() {
    std::vector<KeyRow> leaders;
    keys_.finish([&](const KeyRow& row) {
      if (!leaders.empty() && leaders.front().key != row.key) leaders.clear();
      const auto same =
          std::find_if(leaders.begin(), leaders.end(), [&](const KeyRow& l) { return l.text == row.text; });
      if (same != leaders.end()) return add_candidate(*same, row);
      for (const KeyRow& leader : leaders) add_candidate(leader, row);
      if (leaders.size() < options_.representatives) leaders.push_back(row);
    });
  }

  void add_candidate(const KeyRow& x, const KeyRow& y) {
    const Member a{x.where, x.id}, b{y.where, y.id};
    const bool in_order = offset_of(a.where) < offset_of(b.where);
    pairs_.add(in_order ? PairRow{a, b} : PairRow{b, a});
  }

  void verify() {
    std::vector<PairRow> batch;
    PairRow last{};
    pairs_.finish([&](const PairRow& pair) {
      if (pair == last) return;  // from another band; no pair is all zeros
      last = pair;
      batch.push_back(pair);
      if (batch.size() == 8192) join_alike(batch);
    });
    join_alike(batch);
  }

  void join_alike(std::vector<PairRow>& batch) {
    stop_if_interrupted("minhash");
    std::vector<double> similarity(batch.size());
    for_each_slice(exec_, batch.size(), 64, [&](size_t first, size_t last) {
      MinhashDocument a, b;
      std::vector<uint32_t> raw;  // a's shingles as they came
      for (size_t i = first; i < last; ++i) {
        if (i == first || batch[i].a != batch[i - 1].a) {
          read(batch[i].a, a);
          raw = a.shingles;
          make_set(a.shingles);
        }
        read(batch[i].b, b);
        similarity[i] = b.shingles == raw ? 1 : (make_set(b.shingles), jaccard(a.shingles, b.shingles));
      }
    });
    for (size_t i = 0; i < batch.size(); ++i) {
      ++stats_.candidates;
      if (similarity[i] < options_.threshold) continue;
      ++stats_.edges;
      connected_.join(name(batch[i].a), name(batch[i].b), static_cast<float>(similarity[i]));
    }
    batch.clear();
  }

  static DocumentName name(const Member& m) { return {m.where >> kPlaceBits, m.id}; }

  void read(const Member& member, MinhashDocument& out) const {
    const uint64_t offset = offset_of(member.where);
    const auto after = std::upper_bound(starts_.begin(), starts_.end(), offset);
    const auto file = static_cast<size_t>(after - starts_.begin()) - 1;
    files_[file].read_at(offset - starts_[file], out);
    check(out.entry.id == member.id, Code::input, "[minhash] document ", member.id,
          " is not where it stood (", out.entry.id, " is); the signature files were changed, run again");
  }

  MinhashOptions options_;
  MinhashClustering where_;
  kn::Exec exec_;
  std::deque<MinhashFile> files_;
  std::vector<uint64_t> starts_;  // of each file in the row of all
  ExternalSort<KeyRow, ByKey> keys_;
  ExternalSort<PairRow, ByPlace> pairs_;
  ConnectedDocuments connected_;
  MinhashStats stats_;
};

}  // namespace

MinhashStats minhash_clusters(const std::vector<fs::path>& files, const MinhashOptions& options,
                              const MinhashClustering& where, const kn::Exec& exec, const VerdictSink& sink) {
  return Clustering(files, options, where, exec).run(sink);
}

}  // namespace llmctl
