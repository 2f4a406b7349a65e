// SPDX-License-Identifier: Apache-2.0
#include "data/pipeline/parts.h"

#include <map>
#include <set>

#include "core/base/each_index.h"
#include "data/pipeline/finished_files.h"
#include "data/text/json_fields.h"

namespace llmctl {
namespace {

struct Known {
  std::vector<std::string> paths;
  std::map<std::string, std::pair<Json, std::string>> files;  // identity, digest
};

Known known_files(const fs::path& file) {
  Known known;
  if (!fs::exists(file)) return known;
  const Json run = read_json(file);
  for (const Json& f : field(run, "inputs")) {
    known.paths.push_back(string_field(f, "path"));
    known.files[known.paths.back()] = {field(f, "identity"), string_field(f, "digest")};
  }
  return known;
}

// expand_inputs names what is missing; the list of the run before names what vanished from a glob.
void check_same_list(const std::vector<Part>& parts, const Known& known, const fs::path& folder) {
  if (known.paths.empty()) return;
  std::set<std::string> now;
  for (const Part& p : parts) now.insert(p.input.string());
  for (const std::string& path : known.paths)
    check(now.count(path) > 0, Code::input, "[data] ", path, " is gone: ", folder.string(),
          " began with it; put it back, or name another output");
  for (size_t i = 0; i < parts.size(); ++i)
    check(i < known.paths.size() && parts[i].input.string() == known.paths[i], Code::input, "[data] ",
          parts[i].input.string(), i < known.paths.size() ? " has another place" : " is new",
          " in the list of inputs that ", folder.string(), " began with; name another output");
}

}  // namespace

std::vector<Part> list_parts(const PipelineConfig& config, const fs::path& folder, Log& log) {
  std::vector<Part> parts;
  std::map<std::string, size_t> seen;
  uint64_t total = 0;
  for (size_t s = 0; s < config.sources.size(); ++s)
    for (const fs::path& input : expand_inputs(config.sources[s].inputs)) {
      check(input != "-", Code::usage,
            "[data] a run reads files, which it can read again, not standard input");
      const bool is_new = seen.emplace(fs::weakly_canonical(input).string(), s).second;
      check(is_new, Code::input, "[data] ", input.string(),
            " is named twice: its documents would be duplicates of themselves");
      Part part;
      part.number = static_cast<uint32_t>(parts.size());
      part.source = s;
      part.input = input;
      total += part.input_bytes = fs::file_size(input);
      parts.push_back(std::move(part));
    }
  check(parts.size() < (size_t{1} << 24), Code::input, "[data] ", parts.size(),
        " input files, fewer than 2^24 can be numbered");
  const Known known = known_files(folder / "run.json");
  check_same_list(parts, known, folder);
  Meter meter(log, "digests of inputs", "bytes", total);
  for (Part& part : parts) {
    const auto at = known.files.find(part.input.string());
    const bool same = at != known.files.end() && at->second.first == identity_json(part.input);
    part.input_digest = same ? Digest::from_hex(at->second.second) : digest_of_file(part.input);
    if (at != known.files.end() && part.input_digest.hex() != at->second.second)
      log.warning("[data] " + part.input.string() + " has changed since the run began: it is read again");
    meter.add(part.input_bytes);
  }
  return parts;
}

Json parts_json(const std::vector<Part>& parts, const PipelineConfig& config) {
  Json list = Json::array();
  for (const Part& p : parts)
    list.push_back({{"path", p.input.string()},
                    {"source", config.sources[p.source].name},
                    {"bytes", p.input_bytes},
                    {"digest", p.input_digest.hex()},
                    {"identity", identity_json(p.input)}});
  return list;
}

uint64_t bytes_of(const std::vector<Located>& batch) {
  uint64_t bytes = 0;
  for (const Located& l : batch) bytes += l.record.text.size();
  return bytes;
}

void for_each_batch(const kn::Exec& exec, const Part& part,
                    const std::function<void(std::vector<Located>&)>& sink) {
  for_each_batch(exec, part, 0, [&](std::vector<Located>& batch) {
    sink(batch);
    return true;
  });
}

void for_each_batch(const kn::Exec& exec, const Part& part, uint64_t from,
                    const std::function<bool(std::vector<Located>&)>& sink) {
  const RecordFile file(part.records);
  check(file.records() == part.documents, Code::input, "[data] ", part.records.string(), " holds ",
        file.records(), " records, ", part.documents, " are expected; delete it and run again");
  const uint64_t at_once = static_cast<uint64_t>(exec.pool->threads()) * 2;
  for (uint64_t first = file.block_of(from); first < file.blocks(); first += at_once) {
    const uint64_t n = std::min(at_once, file.blocks() - first);
    std::vector<std::vector<Record>> blocks(n);
    for_each_index(exec, static_cast<int64_t>(n), [&](int64_t i) {
      blocks[static_cast<size_t>(i)] = file.block(first + static_cast<uint64_t>(i));
    });
    std::vector<Located> batch;
    uint64_t place = file.first_of(first);
    for (auto& block : blocks)
      for (Record& r : block)
        if (const uint64_t p = place++; part.alive[p] && p >= from) batch.push_back({p, std::move(r)});
    if (!batch.empty() && !sink(batch)) return;
  }
}

}  // namespace llmctl
