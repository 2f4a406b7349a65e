// SPDX-License-Identifier: Apache-2.0
#include "data/web/cld2_library.h"

#include <dlfcn.h>

#include <initializer_list>

namespace llmctl::cld2 {
namespace {

template <class F>
bool load(void* handle, const char* symbol, F& function) {
  function = reinterpret_cast<F>(dlsym(handle, symbol));
  return function != nullptr;
}

// The small tables first: they are what Debian's own programs use.
Library open_library() {
  Library found;
  for (const char* name : {"libcld2.so.0", "libcld2_full.so.0", "libcld2.so"}) {
    void* handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!handle) continue;
    const bool whole =
        load(handle, "_ZN4CLD224ExtDetectLanguageSummaryEPKcibPNS_8LanguageEPiS4_Pb", found.detect) &&
        load(handle, "_ZN4CLD212LanguageCodeENS_8LanguageE", found.code);
    if (whole) return found;
    dlclose(handle);
  }
  return {};
}

}  // namespace

const Library* library() {
  static const Library found = open_library();
  return found.detect && found.code ? &found : nullptr;
}

}  // namespace llmctl::cld2
