// SPDX-License-Identifier: Apache-2.0
// From a token of a shard back to where it came from.
#pragma once

#include "core/base/file.h"
#include "core/base/json.h"

namespace llmctl {

// `shard`: with or without .bin or .idx, with its .sources beside it; `offset`: of the token in it.
// {shard, offset, token {id, text, begin, end, exact}, document {in_shard, token, tokens, file, number,
// offset, length, url, date, licence, source, language}, input {path, digest}, signals {name: value},
// decisions [{stage, rule (null: kept), ...}]}. begin and end are bytes of the document's text as it was
// packed; exact: those bytes are the token's. Without the run around the shard, what only the run knows is
// null. Error{usage} for an offset behind the end, Error{input} for files that are not what they were.
Json trace_token(const fs::path& shard, uint64_t offset, const std::string& tokenizer);
std::string trace_text(const Json& trace);

}  // namespace llmctl
