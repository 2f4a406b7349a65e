// SPDX-License-Identifier: Apache-2.0
// CLD2 opened at run time: the two functions that language identification needs.
#pragma once

namespace llmctl::cld2 {

// CLD2::ExtDetectLanguageSummary with percents and without hints, as exported by C++ (Itanium ABI). A
// Language is an enum of int size.
struct Library {
  int (*detect)(const char* text, int bytes, bool is_plain_text, int* language3, int* percent3,
                int* text_bytes, bool* is_reliable) = nullptr;
  const char* (*code)(int language) = nullptr;
};

// Opened once; nullptr when it is not there. Any thread.
const Library* library();

}  // namespace llmctl::cld2
