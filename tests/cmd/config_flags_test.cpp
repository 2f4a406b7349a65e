// SPDX-License-Identifier: Apache-2.0
// One field: flag beats --set beats environment beats file beats default.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdlib>

#include "cmd/commands.h"

using namespace llmctl;

namespace {

struct Inner {
  double beta1 = 0.9;
  template <class V>
  void fields(V& v) {
    v("beta1", beta1, "decay").range(0, 1);
  }
};
struct Config {
  int64_t max_steps = 1;
  uint64_t seed = 5;
  bool tied = false;
  std::string name = "a";
  std::vector<std::string> tasks;
  Inner optimizer;
  template <class V>
  void fields(V& v) {
    v("max_steps", max_steps, "steps");
    v("seed", seed, "seed");
    v("tied", tied, "tie");
    v("name", name, "name");
    v("tasks", tasks, "tasks");
    v.object("optimizer", optimizer);
  }
};

// What a verb with a config struct does, on the arguments after its name.
Config resolved(std::vector<std::string> arguments, const std::string& file = "") {
  Common common;
  CLI::App root;
  Config config;
  CLI::App* app = root.add_subcommand("verb", "");
  ConfigFlags flags(*app, common, fields_of(config));
  app->add_option("--set", common.set)->allow_extra_args(false);
  app->add_option("--config", common.config);
  on_run(*app, common, [&] {
    flags.resolve(file);
    return 0;
  });
  arguments.insert(arguments.begin(), "verb");
  arguments = expand_arguments(root, arguments);
  std::reverse(arguments.begin(), arguments.end());
  root.parse(arguments);
  int code = common.run();  // may throw: outside the macro
  REQUIRE(code == 0);
  return config;
}

struct Variable {
  const char* name;
  Variable(const char* n, const char* value) : name(n) { ::setenv(n, value, 1); }
  ~Variable() { ::unsetenv(name); }
};

}  // namespace

TEST_CASE("config flags: precedence") {
  fs::path file = fs::temp_directory_path() / "llmctl-config-flags-test.json";
  write_file(file, R"({"max_steps": 2, "optimizer": {"beta1": 0.2}})", true);
  CHECK(resolved({}).max_steps == 1);
  CHECK(resolved({}, file.string()).max_steps == 2);
  CHECK(resolved({"--config", file.string()}).optimizer.beta1 == 0.2);
  Variable steps("LLMCTL_MAX_STEPS", "3"), beta("LLMCTL_OPTIMIZER_BETA1", "0.3");
  CHECK(resolved({}, file.string()).max_steps == 3);
  CHECK(resolved({"--set", "max_steps=4"}, file.string()).max_steps == 4);
  CHECK(resolved({"--set", "max_steps=4", "--max-steps", "5"}, file.string()).max_steps == 5);
  CHECK(resolved({"--set", "optimizer.beta1=0.4"}).optimizer.beta1 == 0.4);
  CHECK(resolved({"--optimizer.beta1=0.5", "--set", "optimizer.beta1=0.4"}).optimizer.beta1 == 0.5);
  fs::remove(file);
}

TEST_CASE("config flags: kinds") {
  CHECK(resolved({"--tied"}).tied);
  CHECK_FALSE(resolved({"--tied=false"}).tied);
  CHECK(resolved({"--tasks", "a,b"}).tasks == std::vector<std::string>{"a", "b"});
  CHECK(resolved({"--tasks", "a", "--tasks", "b"}).tasks == std::vector<std::string>{"a", "b"});
  CHECK(resolved({"--tasks", "[\"a\"]"}).tasks == std::vector<std::string>{"a"});
  CHECK(resolved({"--name", "[x] y"}).name == "[x] y");
  CHECK(resolved({"--name="}).name.empty());
  CHECK(resolved({"--name", "-5"}).name == "-5");
  CHECK(resolved({"--seed", "18446744073709551615"}).seed == UINT64_MAX);
  for (std::vector<std::string> bad :
       {std::vector<std::string>{"--max-steps", "x"}, {"--optimizer.beta1", "2"}, {"--set", "max_stps=1"}})
    try {
      resolved(bad);
      FAIL(bad.front());
    } catch (const Error& e) {
      CHECK(e.code == Code::usage);
    }
}
