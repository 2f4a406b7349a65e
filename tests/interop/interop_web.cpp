// SPDX-License-Identifier: Apache-2.0
// What web_corpus.py compares: `extract FILE...` writes {"file", "text", "seconds"} a line (seconds of the
// extraction alone, the best of three), `ingest FILE...` {"file", "records", "seen"}.
#include <algorithm>
#include <chrono>
#include <cstdio>

#include "core/base/json.h"
#include "data/web/extract.h"
#include "data/web/ingest.h"

using namespace llmctl;

namespace {

Json extract(const fs::path& file) {
  std::string html;
  read_records(file, 0, {.format = "html"}, [&](Record&& r) { html = std::move(r.text); });
  Extracted page;
  double best = 1e9;
  for (int i = 0; i < 3; ++i) {
    const auto start = std::chrono::steady_clock::now();
    page = extract_main_text(html);
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return {{"file", file.string()}, {"text", page.text}, {"seconds", best}};
}

Json ingest(const fs::path& file) {
  const IngestCounts counts = read_records(file, 0, {}, [](Record&&) {});
  return {{"file", file.string()}, {"records", counts.records}, {"seen", counts.seen}};
}

}  // namespace

int main(int argc, char** argv) {
  try {
    check(argc > 2, Code::usage, "[interop_web] extract|ingest FILE...");
    const std::string what = argv[1];
    for (int i = 2; i < argc; ++i)
      std::puts(json_text(what == "extract" ? extract(argv[i]) : ingest(argv[i])).c_str());
  } catch (const Error& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return static_cast<int>(e.code);
  }
}
