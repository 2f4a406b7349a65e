// SPDX-License-Identifier: Apache-2.0
// Cuts ASCII text into the pieces of a tokenizer's split pattern, 64 bytes at a time: bytes to bit masks
// of character classes, masks to a mask of piece starts, that to positions. No state is carried: a window
// begins where a piece begins, and what the window cannot decide (the last bytes, anything that is not
// ASCII, white space that runs on, rare cases) is left for the caller, who decides it one piece at a time.
// bits: exact; every instruction set gives the same pieces.
// Patterns: openai/tiktoken openai_public.py, and the "pre_tokenizer" of published tokenizer.json files.
#pragma once

#include <cstdint>

#include "kernels/exec.h"

namespace llmctl::kn {

enum class AsciiPattern : uint8_t {
  gpt2,       // 's|'t|...| ?L+| ?N+| ?[^sLN]+|white space
  words1,     // (?i:'s|..)|[^rnLN]?L+|N|...: digits one by one (qwen2)
  words2,     // two by two
  words3,     // three by three (cl100k, llama3)
  cased1,     // o200k without contractions, digits one by one (tekken)
  cased3,     // o200k
  digits,     // N isolated, then gpt2 (starcoder, smollm)
  deepseek3,  // N{1,3} isolated, CJK isolated, then words without contractions
};

struct AsciiCut {
  const char* text = nullptr;
  int64_t size = 0;
  int64_t at = 0;            // a piece begins here; moves on
  uint32_t* ends = nullptr;  // gets where pieces end, counted from text; room for `capacity` and 8 more
  int64_t capacity = 0;
  int64_t count = 0;
};

// Appends the ends of pieces while whole windows decide them. capacity >= 64; size < 2^32.
using AsciiCutter = void (*)(AsciiCut&);
AsciiCutter ascii_cutter(AsciiPattern pattern, Isa isa);

}  // namespace llmctl::kn
