// SPDX-License-Identifier: Apache-2.0
// Packed weights kept between processes: what Parameters hold for inference, byte for byte, as a file
// that is mapped and read in place. Processes share its pages, and a start packs nothing.
//
// A file KEY.panels holds a page of header, the digests of its chunks, and from byte 2 MiB on the
// weights. KEY is a digest of the weight files' digests (io/file_digest.h), of the name, shape, place
// and storage of every weight, and of a probe that the packing kernels have packed: other weights,
// another plan or another layout is another key. Digests find damage and change; they are not
// cryptographic. The weight files must be the ones that were mapped, unchanged, when the key is made
// and again when a file is finished.
//
// A file is trusted when its header and a few chunks are as they were written, once it was read and
// compared as a whole in this boot of the system and not written to since (the header's stamp). So a
// file needs no flush to the disk when it is made: what a crash left of it is found and made again.
// Whoever can write to the folder can change what models answer: it is made for its owner
// alone, and one that others own or may write to is not used. The folder should be on a local disk:
// another machine that evicts a file from a network one takes it from under its readers.
//
// Nothing here fails a load: a folder that cannot be written, a full disk, a damaged file cost a line
// on stderr and the time to pack.
#pragma once

#include <memory>
#include <optional>

#include "core/base/progress.h"
#include "core/io/file_digest.h"
#include "core/models/weight_sink.h"

namespace llmctl {

struct PanelCacheOptions {
  bool use = false;
  fs::path folder;                          // empty: default_cache_folder()
  int64_t max_bytes = 0;                    // of the folder; 0: four models
  int64_t min_bytes = int64_t{64} << 20;    // smaller models are packed as fast as they are mapped
  Log* log = nullptr;
};

// $XDG_CACHE_HOME/llmctl, else ~/.cache/llmctl, else empty. ($LLMCTL_CACHE is the flag --cache.)
fs::path default_cache_folder();

// content_digest() of a model's file, remembered in the cache's folder where that is in use.
Digest model_file_digest(const fs::path& file, const PanelCacheOptions& options, const kn::Exec& exec);

// A mapped file of packed weights. Read-only; lives as long as any copy.
struct PanelMap {
  std::shared_ptr<std::byte> data;  // 2 MiB aligned
  int64_t bytes = 0;
};

class PanelCache {
 public:
  // bytes: what Parameters take, `exec` as they are loaded.
  PanelCache(const PanelCacheOptions& options, Digest key, int64_t bytes, const kn::Exec& exec);
  // The weights, if the folder has them whole.
  std::optional<PanelMap> find();

  // Packs into a new file: memory that reads as zero until sink() has seen it. Nothing when the file
  // cannot or should not be written (another process is at it, no room).
  class Writer;
  std::unique_ptr<Writer> writer();
  // Oldest files by last use go until the folder keeps its bounds; the key's own stays.
  void evict() const;

 private:
  void say(const std::string& text) const;
  bool whole(int fd, const std::byte* data, const std::vector<Digest>& table) const;
  PanelCacheOptions options_;
  Digest key_;
  int64_t bytes_;
  const kn::Exec& exec_;
};

// One file being written: the caller packs and digests one buffer while a thread of its own hands the
// other to the system, in chunks that become huge pages of the page cache. Destroyed before commit(), it leaves nothing.
class PanelCache::Writer final : public WeightSink {
 public:
  Writer(const fs::path& folder, Digest key, int64_t bytes, const kn::Exec& exec);  // Error{io}
  ~Writer() override;
  const PanelMap& map() const;
  std::byte* stage(const std::byte* place, int64_t bytes) override;
  void done() override;
  // Writes what is left and gives the file its name. Error{io}.
  void commit();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace llmctl
