// SPDX-License-Identifier: Apache-2.0
#include "core/io/tensor_store.h"

#include <sys/mman.h>

#include <fmt/format.h>

#include <set>

#include "core/base/json.h"

namespace llmctl {
namespace {

constexpr uintptr_t kPage = 4096;

// Shard file names in an index must stay inside the folder.
std::set<std::string> shards_of(const fs::path& index) {
  const Json json = read_json(index);
  const std::string who = "[model] " + index.string();
  check(json.is_object() && json.contains("weight_map") && json["weight_map"].is_object(), Code::input, who,
        ": no weight_map");
  std::set<std::string> files;
  for (const auto& [name, file] : json["weight_map"].items()) {
    check(file.is_string(), Code::input, who, ": ", name, " has no file name");
    const std::string text = file.get<std::string>();
    check(!text.empty() && fs::path(text).filename() == fs::path(text), Code::input, who, ": shard name '", text,
          "' leaves the folder");
    files.insert(text);
  }
  check(files.size() <= 100'000, Code::input, who, ": ", files.size(), " shards");
  return files;
}

}  // namespace

TensorStore::TensorStore(const fs::path& folder) : folder_(folder) {
  const fs::path single = folder / "model.safetensors", index = folder / "model.safetensors.index.json";
  std::set<std::string> names;
  if (fs::exists(single))
    names.insert(single.filename().string());
  else if (fs::exists(index))
    names = shards_of(index);
  else
    throw Error(Code::input, "[model] " + folder.string() + ": no model.safetensors there");
  for (const std::string& name : names) {
    files_.emplace_back(folder / name);
    for (const auto& [tensor, view] : files_.back().tensors())
      check(tensors_.emplace(tensor, view).second, Code::input, "[model] ", folder.string(), ": ", tensor,
            " stands in two shards");
  }
}

View TensorStore::at(const std::string& name) const {
  auto it = tensors_.find(name);
  check(it != tensors_.end(), Code::input, "[model] ", folder_.string(), ": no tensor named ", name);
  return it->second;
}

std::vector<fs::path> TensorStore::files() const {
  std::vector<fs::path> paths;
  for (const SafeTensors& file : files_) paths.push_back(file.path());
  return paths;
}

bool TensorStore::unchanged() const {
  try {
    return std::all_of(files_.begin(), files_.end(),
                       [](const SafeTensors& file) { return identity_of(file.path()) == file.identity(); });
  } catch (const Error&) {  // removed
    return false;
  }
}

void want_pages(const View& mapped) {
  const auto begin = reinterpret_cast<uintptr_t>(mapped.data), end = begin + static_cast<uintptr_t>(mapped.bytes());
  const uintptr_t first = begin / kPage * kPage;
#ifdef MADV_POPULATE_READ  // Linux 5.14; elsewhere each page is asked for as it is touched
  if (first < end) ::madvise(reinterpret_cast<void*>(first), end - first, MADV_POPULATE_READ);
#endif
}

void release_pages(const View& mapped) {
  const auto begin = reinterpret_cast<uintptr_t>(mapped.data), end = begin + static_cast<uintptr_t>(mapped.bytes());
  const uintptr_t first = (begin + kPage - 1) / kPage * kPage, last = end / kPage * kPage;
  if (first < last) ::madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);  // only a hint
}

void save_tensors(const fs::path& folder, const std::vector<NamedView>& tensors, int64_t shard_bytes) {
  std::vector<std::vector<NamedView>> shards(1);
  int64_t filled = 0, total = 0;
  for (const NamedView& t : tensors) {
    if (filled > 0 && filled + t.view.bytes() > shard_bytes) {
      shards.emplace_back();
      filled = 0;
    }
    shards.back().push_back(t);
    filled += t.view.bytes();
    total += t.view.bytes();
  }
  if (shards.size() == 1)
    return save_safetensors(folder / "model.safetensors", tensors, {{"format", "pt"}}, true);
  Json map = Json::object();
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string name = fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
    for (const NamedView& t : shards[i]) map[t.name] = name;
    save_safetensors(folder / name, shards[i], {{"format", "pt"}}, true);
  }
  const Json index = {{"metadata", {{"total_size", total}}}, {"weight_map", map}};
  write_file(folder / "model.safetensors.index.json", index.dump(2) + "\n", true);
}

}  // namespace llmctl
