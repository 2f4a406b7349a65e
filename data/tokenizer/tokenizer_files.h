// SPDX-License-Identifier: Apache-2.0
// How a trained vocabulary is written: Hugging Face's tokenizer.json and tokenizer_config.json.
#pragma once

#include <string>
#include <vector>

#include "core/base/json.h"

namespace llmctl {

// {<|endoftext|>, <|im_start|>, <|im_end|>}, or none when vocab_size is 256. Error{usage} otherwise
// below 259 or above 2^24.
std::vector<std::string> special_tokens(int64_t vocab_size);
// The "pre_tokenizer" of a pattern name. Error{usage} for an unknown name.
Json pre_tokenizer_json(const std::string& pattern);

}  // namespace llmctl
