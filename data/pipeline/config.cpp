// SPDX-License-Identifier: Apache-2.0
#include "data/pipeline/config.h"

#include <set>

namespace llmctl {

void check_config(const PipelineConfig& config) {
  check(!config.output.empty(), Code::usage,
        "[data] name the run's folder: \"output\" in the config, or --output");
  check(!config.sources.empty(), Code::input, "[data] the config names no sources");
  std::set<std::string> names;
  bool weights = false;
  for (const SourceConfig& s : config.sources) {
    check(!s.inputs.empty(), Code::input, "[data] source ", s.name, " has no inputs");
    check(names.insert(s.name).second, Code::input, "[data] two sources are called ", s.name);
    for (const double value : {s.weight, s.epochs})
      check(value == 0 || value >= 0.001, Code::input, "[data] source ", s.name, ": ", value,
            " of it, at least 0.001 is counted");
    weights = weights || s.weight > 0;
  }
  for (const SourceConfig& s : config.sources)
    check(!weights || s.weight > 0, Code::input, "[data] source ", s.name,
          " has no weight, others have: give each one, or none");
  check(config.mix.characters == 0 || weights, Code::input, "[data] mix.characters needs weights of sources");
  const MinHashConfig& m = config.dedup.minhash;
  check(m.bands * m.rows <= 1024, Code::input, "[data] dedup.minhash: ", m.bands, " bands of ", m.rows,
        " rows, at most 1024 hashes");
}

namespace {

struct Preset {
  const char* name;
  const char* text;
};

// Every argument that decides a result is named: defaults of tools have moved under recipes before.
constexpr Preset kPresets[] = {
    {"c4", R"({"language": {"keep": ["en"], "min_score": 0.99}, "filters": ["c4"],
               "dedup": {"exact": true, "minhash": {"enabled": false}, "lines": {"enabled": false}}})"},
    {"gopher",
     R"({"language": {"keep": ["en"], "min_score": 0.65}, "filters": ["gopher_repetition", "gopher_quality"],
                   "dedup": {"exact": true, "minhash": {"enabled": true, "words": 13, "bands": 9, "rows": 13, "threshold": 0.8, "seed": 1},
                             "lines": {"enabled": false}}})"},
    {"fineweb", R"({"language": {"keep": ["en"], "min_score": 0.65},
                    "filters": ["fineweb_recipe"],
                    "dedup": {"exact": true, "minhash": {"enabled": true, "words": 5, "bands": 14, "rows": 8, "threshold": 0.72, "seed": 1},
                              "lines": {"enabled": false}}, "scrub": {"enabled": true, "email": true, "ip": true, "phone": false, "card": false, "secret": false, "fineweb": true}})"},
    {"refinedweb", R"({"language": {"keep": ["en"], "min_score": 0.65},
                       "filters": ["refinedweb"],
                       "dedup": {"exact": true, "minhash": {"enabled": true, "words": 5, "bands": 20, "rows": 13, "threshold": 0.8, "seed": 1},
                                 "lines": {"enabled": false}}})"},
};

}  // namespace

PipelineConfig preset_config(const std::string& name) {
  PipelineConfig config;
  if (name.empty()) return config;
  for (const Preset& p : kPresets)
    if (name == p.name) {
      fields_of(config).read(parse_json(p.text, "preset " + name), "preset " + name);
      config.preset = name;
      return config;
    }
  throw Error(Code::usage, "[data] no preset " + name);
}

}  // namespace llmctl
