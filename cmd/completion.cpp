// SPDX-License-Identifier: Apache-2.0
// Completion scripts, generated from the declared verbs and flags.
#include <algorithm>

#include "cmd/commands.h"

namespace llmctl {
namespace {

struct Node {
  std::string path;  // "" or "tokenize train"
  const CLI::App* app;
};

void collect(const CLI::App& app, const std::string& path, std::vector<Node>& out) {
  out.push_back({path, &app});
  for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; }))
    collect(*sub, path.empty() ? sub->get_name() : path + " " + sub->get_name(), out);
}

std::string words_of(const CLI::App& app) {
  std::string out;
  for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; }))
    out += sub->get_name() + " ";
  for (const std::string& name : flag_names(app)) out += name + " ";
  if (!out.empty()) out.pop_back();
  return out;
}

// Both shells walk the words typed so far down the tree, then offer the words of that place.
std::string cases(const std::vector<Node>& nodes) {
  std::string out = "  case \"$at\" in\n";
  for (const Node& node : nodes) out += "    '" + node.path + "') words='" + words_of(*node.app) + "' ;;\n";
  return out + "  esac\n";
}

std::string walk(const std::vector<Node>& nodes, const char* typed) {
  std::string known;
  for (const Node& node : nodes)
    if (!node.path.empty()) known += (known.empty() ? "'" : "|'") + node.path + "'";
  return std::string("  local at='' word next words=''\n  for word in ") + typed +
         "; do\n    next=\"${at:+$at }$word\"\n    case \"$next\" in\n      " + known +
         ") at=\"$next\" ;;\n    esac\n  done\n";
}

std::string bash_script(const std::vector<Node>& nodes) {
  return "# llmctl completion bash > ~/.local/share/bash-completion/completions/llmctl\n_llmctl() {\n" +
         walk(nodes, "\"${COMP_WORDS[@]:1:COMP_CWORD-1}\"") + cases(nodes) +
         "  COMPREPLY=($(compgen -W \"$words\" -- \"${COMP_WORDS[COMP_CWORD]}\"))\n}\n"
         "complete -o default -F _llmctl llmctl\n";
}

std::string zsh_script(const std::vector<Node>& nodes) {
  return "#compdef llmctl\n# llmctl completion zsh > a folder of your fpath, as _llmctl\n_llmctl() {\n" +
         walk(nodes, "\"${(@)words_typed}\"") + cases(nodes) +
         "  compadd -- ${=words}\n  _files\n}\n"
         "_llmctl_start() {\n  local -a words_typed=(\"${(@)words[2,CURRENT-1]}\")\n  _llmctl\n}\n"
         "compdef _llmctl_start llmctl\n";
}

std::string quoted(const std::string& text) {
  std::string out = "'";
  for (char c : text)
    out += c == '\'' ? std::string("\\'") : c == '\\' ? std::string("\\\\") : std::string(1, c);
  return out + "'";
}

std::string fish_script(const std::vector<Node>& nodes) {
  std::string out =
      "# llmctl completion fish > ~/.config/fish/completions/llmctl.fish\n"
      "function __llmctl_at\n"
      "  set -l typed (commandline -opc)[2..-1]\n"
      "  set -l at\n"
      "  for word in $typed\n"
      "    string match -q -- '-*' $word; or set -a at $word\n"
      "  end\n"
      "  test \"$at[1..$argv[1]]\" = \"$argv[2..-1]\"\n"
      "end\n";
  for (const Node& node : nodes) {
    size_t depth =
        node.path.empty() ? 0 : 1 + static_cast<size_t>(std::count(node.path.begin(), node.path.end(), ' '));
    std::string start = "complete -c llmctl -n ";
    std::string here = depth == 0 ? "'test (count (commandline -opc)) -eq 1'"
                                  : "'__llmctl_at " + std::to_string(depth) + " " + node.path + "'";
    for (const CLI::App* sub : node.app->get_subcommands([](const CLI::App*) { return true; }))
      out += start + here + " -a " + sub->get_name() + " -d " + quoted(sub->get_description()) + "\n";
    for (const CLI::Option* option : node.app->get_options())
      for (const auto& name : option->get_lnames())
        out += start + here + " -l " + name + " -d " + quoted(option->get_description()) + "\n";
  }
  return out;
}

int completion(const std::string& shell, const CLI::App& root, Common& common) {
  std::vector<Node> nodes;
  collect(root, "", nodes);
  std::string script = shell == "bash"  ? bash_script(nodes)
                       : shell == "zsh" ? zsh_script(nodes)
                                        : fish_script(nodes);
  print_result(common, {{"shell", shell}, {"script", script}}, script);
  return 0;
}

}  // namespace

void add_completion(CLI::App& app, Common& common) {
  auto shell = std::make_shared<std::string>();
  app.add_option("shell", *shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  examples(app, {"llmctl completion bash > ~/.local/share/bash-completion/completions/llmctl",
                 "llmctl completion fish > ~/.config/fish/completions/llmctl.fish"});
  on_run(app, common, [shell, &app, &common] { return completion(*shell, *app.get_parent(), common); });
}

}  // namespace llmctl
