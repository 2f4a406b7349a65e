// SPDX-License-Identifier: Apache-2.0
#include "core/io/file_digest.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <ctime>

#include "core/io/tensor_store.h"

namespace llmctl {
namespace {

constexpr int64_t kSecond = 1'000'000'000;

bool settled(const FileIdentity& id) {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return now.tv_sec * kSecond + now.tv_nsec - std::max(id.written, id.changed) > 2 * kSecond;
}

}  // namespace

std::vector<Digest> chunk_digests(const std::byte* data, uint64_t bytes, const kn::Exec& exec) {
  std::vector<Digest> chunks((bytes + kDigestChunk - 1) / kDigestChunk);
  kn::parallel_for(exec, static_cast<int64_t>(chunks.size()), [&](int64_t i) {
    const uint64_t begin = static_cast<uint64_t>(i) * kDigestChunk;
    chunks[static_cast<size_t>(i)] = digest_of(data + begin, std::min(kDigestChunk, bytes - begin));
  });
  return chunks;
}

Digest content_digest(const fs::path& file, const kn::Exec& exec) {
  // A window at a time, so that the file never counts as memory of the process.
  constexpr uint64_t kWindow = 32 * kDigestChunk;
  const FileMap map(file);
  std::vector<Digest> all;
  for (uint64_t begin = 0; begin < map.size(); begin += kWindow) {
    const uint64_t bytes = std::min(kWindow, map.size() - begin);
    const View window(const_cast<std::byte*>(map.data()) + begin, DType::u8, {static_cast<int64_t>(bytes)});
    want_pages(window);
    const std::vector<Digest> chunks = chunk_digests(map.data() + begin, bytes, exec);
    release_pages(window);
    all.insert(all.end(), chunks.begin(), chunks.end());
  }
  all.push_back({map.size(), 0});
  return digest_of(all.data(), all.size() * sizeof(Digest));
}

Digest remembered_digest(const fs::path& file, const fs::path& folder, const kn::Exec& exec) {
  const FileIdentity id = identity_of(file);
  const std::string text = fmt::format("content 1 {} {} {} {} {}", id.device, id.inode, id.size, id.written, id.changed);
  const fs::path known = folder / (digest_of(text).hex() + ".digest");
  std::error_code ec;
  if (fs::is_regular_file(known, ec)) try {
      return Digest::from_hex(read_file(known, 64).substr(0, 32));
    } catch (const Error&) {  // unreadable: as if it were not there
    }
  const Digest digest = content_digest(file, exec);
  if (settled(id) && identity_of(file) == id) try {
      write_file(known, digest.hex() + "\n", true);
    } catch (const Error&) {  // what is not remembered is taken again
    }
  return digest;
}

}  // namespace llmctl
