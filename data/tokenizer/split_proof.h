// SPDX-License-Identifier: Apache-2.0
// Text that is hard to cut: what a splitter is held against the regular expression with, at load and in
// tests.
#pragma once

#include <cstdint>
#include <string>

namespace llmctl {

// So many parts, drawn by the seed, put side by side: words, contractions in every case, digits, white
// space of all kinds, combining marks, CJK, emoji, scripts of every class. Code points of Unicode 14 and
// older alone, as the referee may know no others; whole UTF-8 unless `broken`.
std::string adversarial_text(uint64_t seed, int parts, bool broken = false);

}  // namespace llmctl
