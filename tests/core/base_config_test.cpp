// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch.hpp>
#include <cstdlib>

#include "core/base/config.h"

using namespace llmctl;
using Catch::Matchers::Equals;

namespace {

struct Source {
  std::string path;
  double weight = 1;
  template <class V>
  void fields(V& v) {
    v("path", path, "where");
    v("weight", weight, "share").range(0, 10);
  }
};
struct Optimizer {
  float learning_rate = 0.1f;
  std::optional<int> warmup;
  template <class V>
  void fields(V& v) {
    v("learning_rate", learning_rate, "peak").range(0, 1);
    v("warmup", warmup, "steps");
  }
};
struct Config {
  int64_t steps = 10;
  uint64_t seed = 0;
  bool tied = true;
  std::string kind = "cosine";
  std::vector<std::string> tasks;
  std::vector<int> sizes = {1, 2};
  std::vector<Source> sources;
  Optimizer optimizer;
  template <class V>
  void fields(V& v) {
    v("steps", steps, "how many").range(1, 1e9);
    v("seed", seed, "seed");
    v("tied", tied, "tied");
    v("kind", kind, "shape").choices({"cosine", "linear"});
    v("tasks", tasks, "tasks");
    v("sizes", sizes, "sizes");
    v("sources", sources, "data");
    v.object("optimizer", optimizer);
  }
};

std::string message(Fields& fields, const char* json) {
  try {
    fields.read(parse_json(json, "f"), "f.json");
  } catch (const Error& e) {
    CHECK(e.code == Code::input);
    return e.what();
  }
  return "";
}

}  // namespace

TEST_CASE("config: what is written reads back as it is") {
  Config a, b;
  a.steps = 77;
  a.tasks = {"x", "y"};
  a.sources = {{"p", 2.5}};
  a.optimizer.warmup = 3;
  a.seed = UINT64_MAX;
  Json json = fields_of(a).write();
  CHECK(json.at("optimizer").dump() == R"({"learning_rate":0.1,"warmup":3})");
  fields_of(b).read(json, "run.json");
  CHECK(fields_of(b).write() == json);
  CHECK(b.optimizer.learning_rate == 0.1f);
  CHECK(b.seed == UINT64_MAX);
}

TEST_CASE("config: errors name the field and what would do") {
  Config c;
  Fields f = fields_of(c);
  CHECK_THAT(message(f, R"({"stpes": 1})"),
             Equals("[config] f.json: unknown field stpes; did you mean steps?"));
  CHECK_THAT(
      message(f, R"({"optimizer": {"learning_rat": 1}})"),
      Equals("[config] f.json: unknown field optimizer.learning_rat; did you mean optimizer.learning_rate?"));
  CHECK_THAT(message(f, R"({"warmup": 1})"),
             Equals("[config] f.json: unknown field warmup; did you mean optimizer.warmup?"));
  CHECK_THAT(message(f, R"({"optimizer": 3})"),
             Equals("[config] f.json: optimizer: expected an object, got 3"));
  CHECK_THAT(message(f, R"({"steps": "many"})"),
             Equals("[config] f.json: steps: expected a number, got \"many\""));
  CHECK_THAT(message(f, R"({"steps": 1.5})"), Equals("[config] f.json: steps: expected an integer, got 1.5"));
  CHECK_THAT(message(f, R"({"steps": 0})"), Equals("[config] f.json: steps: 0 is outside 1 to 1000000000"));
  CHECK_THAT(message(f, R"({"seed": -1})"),
             Equals("[config] f.json: seed: expected an integer in range, got -1"));
  CHECK_THAT(message(f, R"({"kind": "sine"})"),
             Equals("[config] f.json: kind: \"sine\" is none of cosine, linear"));
  CHECK_THAT(message(f, R"({"sources": [{"path": "a", "wieght": 2}]})"),
             Equals("[config] f.json: sources: unknown field wieght; did you mean weight?"));
  CHECK_THAT(message(f, R"([1])"), Equals("[config] f.json: expected an object, got [1]"));
  CHECK(message(f, R"({"steps": 1e3})").empty());
  CHECK(c.steps == 1000);
}

TEST_CASE("config: --set and the environment") {
  Config c;
  Fields f = fields_of(c);
  ::setenv("LLMCTL_OPTIMIZER_LEARNING_RATE", "0.5", 1);
  ::setenv("LLMCTL_TASKS", "a,b", 1);
  f.assign_environment();
  ::unsetenv("LLMCTL_OPTIMIZER_LEARNING_RATE");
  ::unsetenv("LLMCTL_TASKS");
  CHECK(c.optimizer.learning_rate == 0.5f);
  CHECK(c.tasks == std::vector<std::string>{"a", "b"});
  f.assign_set("optimizer.warmup=5");
  f.assign_set("sizes=4,5,6");
  f.assign_set("tied=false");
  f.assign_set("kind=linear");
  f.assign_set("sources=[{\"path\": \"1\"}]");
  CHECK(c.optimizer.warmup == 5);
  CHECK(c.sizes == std::vector<int>{4, 5, 6});
  CHECK_FALSE(c.tied);
  CHECK(c.sources.at(0).path == "1");
  f.assign_set("optimizer.warmup=null");
  CHECK_FALSE(c.optimizer.warmup.has_value());
  for (const char* bad : {"steps", "=1", "stps=1", "steps=x", "tied=maybe", "sizes=1,x"}) try {
      f.assign_set(bad);
      FAIL(bad);
    } catch (const Error& e) {
      CHECK(e.code == Code::usage);
    }
  CHECK(variable_of("--max-tokens") == "LLMCTL_MAX_TOKENS");
}
