// SPDX-License-Identifier: Apache-2.0
// Which code points Hugging Face's tokenizers 0.23 take off as accents. Its crates carry tables of older
// versions of Unicode than ours (Unicode 8 and 9), and ids depend on them: found by asking it about every
// code point. Newer marks stay in the text there, so they stay here.
#pragma once

namespace llmctl {

bool is_bert_accent(char32_t value);   // BertNormalizer: \p{Mn} of Unicode 8
bool is_strip_accent(char32_t value);  // StripAccents: \p{M} of Unicode 9

}  // namespace llmctl
