// SPDX-License-Identifier: Apache-2.0
#include "cmd/commands.h"

namespace llmctl {
namespace {

struct Command {
  const char* name;
  const char* summary;
  void (*add)(CLI::App& app, Common& common);
};
constexpr Command kCommands[] = {
#define LLMCTL_ROW(name, summary) {#name, summary, add_##name},
    LLMCTL_COMMANDS(LLMCTL_ROW)
#undef LLMCTL_ROW
};

// A config struct may hold one of these names itself; then its flag is the one.
template <class T>
CLI::Option* option(CLI::App& app, const char* name, T& target, const char* help) {
  if (app.get_option_no_throw(name)) return nullptr;
  return app.add_option(name, target, help)->group("Common");
}
void flag(CLI::App& app, const char* name, bool& target, const char* help) {
  if (!app.get_option_no_throw(name)) app.add_flag(name, target, help)->group("Common");
}

void add_common(CLI::App& app, Common& c) {
  option(app, "--device", c.device, "cpu, cuda, cuda:N or auto (cpu: the GPU back end is not yet verified)");
  option(app, "--threads", c.threads, "CPU threads; 0 is all; results do not depend on it");
  option(app, "--seed", c.seed, "seed of everything random");
  option(app, "--config", c.config, "JSON file with comments whose fields are flags");
  option(app, "--set", c.set, "field=value, stronger than the file; repeatable");
  option(app, "--isa", c.isa, "instruction set for tests: portable, avx2, avx512, avx512_bf16, amx");
  flag(app, "--json", c.json, "print one JSON object on stdout at the end");
  flag(app, "--quiet", c.quiet, "no progress on stderr");
}

// Every app that can run: those without objects, and those whose object is optional.
void finish(CLI::App& app, Common& common) {
  auto objects = app.get_subcommands([](CLI::App*) { return true; });
  for (CLI::App* object : objects) finish(*object, common);
  if (objects.empty() || app.get_require_subcommand_min() == 0) add_common(app, common);
  // A repeated flag takes one value each time, and text in brackets stays text.
  for (CLI::Option* o : app.get_options())
    if (o->nonpositional() && !o->get_positional()) o->allow_extra_args(false);
}

}  // namespace

void build_app(CLI::App& root, Common& common) {
  root.name("llmctl");
  root.description("One program for the whole life of a language model.");
  root.formatter(std::make_shared<LineFormatter>());
  root.set_help_flag("-h,--help", "print this help");
  root.require_subcommand(0, 1);
  root.option_defaults()->always_capture_default();
  add_version(root, common);
  for (const Command& command : kCommands) {
    CLI::App* app = root.add_subcommand(command.name, command.summary);
    app->group("Verbs");
    command.add(*app, common);
    finish(*app, common);
  }
  examples(root, {"llmctl demo", "llmctl VERB --help"});
}

}  // namespace llmctl
