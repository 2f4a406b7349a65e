// SPDX-License-Identifier: Apache-2.0
// Pre-tokenizers that cut at words, said as the Splits they are.
#pragma once

#include <string>

#include "core/base/json.h"

namespace llmctl {

// A list of "Split" objects that together do what the pre_tokenizer `json` of this type does:
// Whitespace, WhitespaceSplit, Punctuation, CharDelimiterSplit, BertPreTokenizer; else null.
Json as_splits(const std::string& type, const Json& json);

}  // namespace llmctl
