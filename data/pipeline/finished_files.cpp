// SPDX-License-Identifier: Apache-2.0
#include "data/pipeline/finished_files.h"

#include "core/base/digest.h"
#include "data/text/json_fields.h"

namespace llmctl {

Json identity_json(const fs::path& file) {
  const FileIdentity i = identity_of(file);
  return {i.device, i.inode, i.size, i.written, i.changed};
}

Json finished_file(const fs::path& folder, const std::string& name) {
  const fs::path file = folder / name;
  return {{"name", name},
          {"bytes", fs::file_size(file)},
          {"digest", digest_of_file(file).hex()},
          {"identity", identity_json(file)}};
}

std::string fault_of(const fs::path& folder, const Json& files) {
  for (const Json& f : files) {
    const std::string name = string_field(f, "name");
    const fs::path file = folder / name;
    std::error_code ec;
    const uint64_t bytes = fs::file_size(file, ec);
    if (ec) return name + " is missing";
    if (bytes != field(f, "bytes"))
      return name + " has " + std::to_string(bytes) + " bytes of " + field(f, "bytes").dump();
    if (identity_json(file) != field(f, "identity") &&
        digest_of_file(file).hex() != string_field(f, "digest"))
      return name + " is not what was written";
  }
  return "";
}

}  // namespace llmctl
