// SPDX-License-Identifier: Apache-2.0
// Small vocabularies and folders that the tests of the data room share.
#pragma once

#include <unistd.h>

#include <catch2/catch.hpp>
#include <string>

#include "core/base/file.h"
#include "core/base/json.h"
#include "data/tokenizer/bpe_train.h"
#include "data/tokenizer/tokenizer.h"

namespace llmctl {

// A folder that is gone after the test.
struct ScratchFolder {
  fs::path path;
  ScratchFolder() {
    static int number = 0;
    path = fs::temp_directory_path() /
           ("llmctl-data-" + std::to_string(::getpid()) + "-" + std::to_string(number++));
    fs::create_directories(path);
  }
  ~ScratchFolder() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
};

inline TokenizerFiles trained_files(const std::vector<std::string>& texts, int64_t vocab_size,
                                    const std::string& pattern) {
  const BpeTrainOptions options{vocab_size, pattern};
  PieceCounter pieces(pattern);
  for (const std::string& text : texts) pieces.add(text);
  return tokenizer_files(train_bpe(pieces, options, {}), options);
}

inline const char* sample_text() {
  return "The quick brown fox jumps over the lazy dog. The dog sleeps; the fox doesn't. 12 + 345 = 357!\n"
         "There the other foxes gather, and they're quick. \xC3\x9C"
         "ber caf\xC3\xA9 \xE6\x97\xA5\xE6\x9C\xAC\n";
}

inline Tokenizer sample_tokenizer(const std::string& pattern = "qwen2", int64_t vocab_size = 300) {
  const TokenizerFiles files = trained_files({sample_text()}, vocab_size, pattern);
  return Tokenizer::from_json(files.tokenizer, files.config);
}

// A file of the reference material beside the checkout, or nothing (with a message).
inline fs::path shared_file(const std::string& name) {
  for (const fs::path& from : {fs::current_path(), fs::absolute(__FILE__).lexically_normal()})
    for (fs::path up = from; up != up.root_path(); up = up.parent_path())
      if (fs::exists(up / "shared" / name)) return up / "shared" / name;
  WARN("skipped: shared/" << name << " is not here");
  return {};
}

template <class Body>
Code code_of(Body&& body) {
  try {
    body();
  } catch (const Error& e) {
    CHECK(std::string(e.what()).find('\n') == std::string::npos);
    return e.code;
  }
  return Code{0};
}

}  // namespace llmctl
