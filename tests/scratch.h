// SPDX-License-Identifier: Apache-2.0
// For every room's tests: a scratch folder of its own for each test case, and the code of the Error
// that a call throws.
#pragma once

#include <unistd.h>

#include <catch2/catch.hpp>
#include <fstream>
#include <functional>
#include <iterator>
#include <optional>
#include <string>

#include "core/base/file.h"

namespace llmctl {

struct ScratchFolder {
  ScratchFolder() {
    std::string name = (fs::temp_directory_path() / "llmctl-test-XXXXXX").string();
    check(::mkdtemp(name.data()) != nullptr, Code::io, "[test] cannot make ", name);
    path = name;
  }
  ~ScratchFolder() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  // Writes bytes under `name` and returns its path as text.
  std::string put(const std::string& name, const std::string& bytes) const {
    std::ofstream(path / name, std::ios::binary) << bytes;
    return (path / name).string();
  }
  std::string get(const std::string& name) const {
    std::ifstream in(path / name, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  fs::path operator/(const char* name) const { return path / name; }
  // A folder in it.
  fs::path make(const char* name) const {
    fs::create_directories(path / name);
    return path / name;
  }
  fs::path path;
};

// The code of what f throws, which must be one line; Code{0} when it throws nothing.
template <class F>
Code code_of(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    CHECK(std::string(e.what()).find('\n') == std::string::npos);
    return e.code;
  }
  return Code{0};
}

inline std::optional<Code> error_code(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& e) {
    return e.code;
  }
  return std::nullopt;
}

}  // namespace llmctl
