// SPDX-License-Identifier: Apache-2.0
// The one place where errors end: one line on stderr and the exit code of CLI.md.
#include <algorithm>
#include <cstdio>
#include <exception>

#include "cmd/commands.h"

namespace llmctl {
namespace {

int fail(const std::string& verb, int code, std::string text) {
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20) c = ' ';
  std::fprintf(stderr, "llmctl%s%s: %s\n", verb.empty() ? "" : " ", verb.c_str(), text.c_str());
  return code;
}

std::string path_of(const CLI::App& app) {
  return app.get_parent() ? path_of(*app.get_parent()) + " " + app.get_name() : app.get_name();
}

// What CLI11 found, with the nearest name for a flag or verb that does not exist.
std::string usage_text(CLI::App& leaf, const CLI::ParseError& e, const std::vector<std::string>& typed,
                       size_t words) {
  std::string text = e.what(), near;
  bool wrong_word = words < typed.size() && typed[words].rfind("-", 0) != 0;
  std::vector<std::string> objects;
  for (const CLI::App* app : leaf.get_subcommands([](CLI::App*) { return true; }))
    objects.push_back(app->get_name());
  if (wrong_word && !objects.empty()) {
    text = typed[words] + (words == 0 ? ": no such verb" : ": no such object");
    near = closest_name(typed[words], objects);
  } else if (dynamic_cast<const CLI::ExtrasError*>(&e)) {
    auto unknown_flag = [&](const std::string& argument) {
      return argument.rfind("--", 0) == 0 &&
             !leaf.get_option_no_throw(argument.substr(0, argument.find('=')));
    };
    auto at = std::find_if(typed.begin(), typed.end(), unknown_flag);
    if (at != typed.end()) {
      std::string name = at->substr(0, at->find('='));
      text = name + ": no such flag";
      near = closest_name(name, flag_names(leaf));
    }
  }
  if (!near.empty()) text += "; did you mean " + near + "?";
  return "[flags] " + text + (near.empty() ? "; see " : " See ") + path_of(leaf) + " --help";
}

int run(CLI::App& app, Common& common, const std::vector<std::string>& typed) {
  size_t words = 0;
  CLI::App& leaf = *leaf_of(app, typed, words);
  try {
    std::vector<std::string> arguments = expand_arguments(app, typed);
    std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants them
    app.parse(arguments);
  } catch (const CLI::CallForHelp&) {
    print_text(leaf.help(leaf.get_parent() ? path_of(*leaf.get_parent()) : ""));
    return 0;
  } catch (const CLI::ParseError& e) {
    throw Error(Code::usage, usage_text(leaf, e, typed, words));
  }
  common.log.set_quiet(common.quiet);
  check(common.run != nullptr, Code::usage, "[flags] an object is needed; see llmctl ",
        typed.empty() ? "" : typed[0], " --help");
  int code = common.run();
  common.log.live("");
  return code;
}

int guarded(int argc, char** argv) {
  std::string verb;
  try {
    install_signal_handlers();
    Common common;
    common.command_line.assign(argv, argv + argc);
    CLI::App app;
    build_app(app, common);
    std::vector<std::string> typed(argv + 1, argv + argc);
    if (!typed.empty() && object_named(app, typed[0])) verb = typed[0];
    // What follows -- is for the program that launch starts, which takes it from command_line.
    if (verb == "launch") typed.erase(std::find(typed.begin(), typed.end(), "--"), typed.end());
    return run(app, common, typed);
  } catch (const std::exception& e) {
    const Error error = error_of(e);
    return fail(verb, static_cast<int>(error.code), error.what());
  } catch (...) {
    return fail(verb, static_cast<int>(Code::bug), "[bug] unknown exception; please report it");
  }
}

}  // namespace
}  // namespace llmctl

int main(int argc, char** argv) {
  return llmctl::guarded(argc, argv);
}
