// SPDX-License-Identifier: Apache-2.0
// Digests of large files: taken on all threads, and remembered by the file's identity.
//
// A file that was changed in the last two seconds is not remembered, as a second change might fall on
// the same tick of the clock. A digest is a file of its own in the folder, so that processes do not meet.
#pragma once

#include <vector>

#include "core/base/digest.h"
#include "kernels/exec.h"

namespace llmctl {

// One per 2 MiB of memory, in order; the last may cover less.
constexpr uint64_t kDigestChunk = uint64_t{2} << 20;
std::vector<Digest> chunk_digests(const std::byte* data, uint64_t bytes, const kn::Exec& exec);

// Of the size and the chunks' digests: not digest_of_file(). Error{input|io}.
Digest content_digest(const fs::path& file, const kn::Exec& exec);
// The same, read from `folder` where it is known and written there where it can be.
Digest remembered_digest(const fs::path& file, const fs::path& folder, const kn::Exec& exec);

}  // namespace llmctl
