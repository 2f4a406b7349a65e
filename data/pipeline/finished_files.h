// SPDX-License-Identifier: Apache-2.0
// Files that a stage finished, as its manifests list them, and whether they still are what was written: a
// resume believes nothing else. A file with the identity it had (inode, size, times) is believed; any other
// is read and its digest compared, so a copied folder is checked once and a changed, cut or damaged file is
// found. What a disk spoils without touching the times is found when it is read (checksums of blocks).
#pragma once

#include <string>

#include "core/base/file.h"
#include "core/base/json.h"

namespace llmctl {

// What tells contents apart without reading them: [device, inode, bytes, written, changed].
Json identity_json(const fs::path& file);

// {name, bytes, digest, identity} of folder/name. Error{input} when it is not there.
Json finished_file(const fs::path& folder, const std::string& name);
// What is wrong with the first bad one of them ("part-00000.records is missing"); "" when all are sound.
std::string fault_of(const fs::path& folder, const Json& files);

}  // namespace llmctl
