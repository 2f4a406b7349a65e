// SPDX-License-Identifier: Apache-2.0
#include "parallel/launch_env.h"

#include <unistd.h>

#include <charconv>
#include <cstdlib>

#include "kernels/error.h"

namespace llmctl {
namespace {

struct Launcher {
  const char *source, *rank, *world, *local_rank, *local_world;
};
constexpr Launcher kLaunchers[] = {
    {"torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"},
    {"openmpi", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
     "OMPI_COMM_WORLD_LOCAL_SIZE"},
    {"pmi", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"},
    {"slurm", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_STEP_TASKS_PER_NODE"},
};

int number(const std::string& text, const std::string& name, int least) {
  int value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  check(error == std::errc() && stop == end && value >= least, Code::input, "[launch] ", name, "=", text,
        ": not a number of ", least, " and up");
  return value;
}

std::optional<int> number_in(const Environment& env, const char* name, int least) {
  const std::optional<std::string> text = env(name);
  return text && !text->empty() ? std::optional(number(*text, name, least)) : std::nullopt;
}

struct Claim {
  const Launcher* by;
  int rank, world;
  std::string text() const {
    return std::string(by->rank) + "=" + std::to_string(rank) + " of " + by->world + "=" +
           std::to_string(world);
  }
};

// What each launcher that left its mark says, the innermost first.
std::vector<Claim> claims_in(const Environment& env) {
  std::vector<Claim> claims;
  for (const Launcher& l : kLaunchers) {
    const auto rank = number_in(env, l.rank, 0), world = number_in(env, l.world, 1);
    const bool batch_script = std::string(l.source) == "slurm" && !world;
    if ((!rank && !world) || batch_script) continue;
    check(rank && world, Code::input, "[launch] ", rank ? l.rank : l.world, " is set and ",
          rank ? l.world : l.rank, " is not; set both or none");
    check(*rank < *world, Code::input, "[launch] ", l.rank, "=", *rank, " with ", l.world, "=", *world,
          ": ranks count from 0");
    claims.push_back({&l, *rank, *world});
  }
  return claims;
}

// A launcher under another has at least as many ranks as the other has tasks; the same number are the same.
void check_claims(const std::vector<Claim>& claims) {
  for (size_t i = 1; i < claims.size(); ++i) {
    const Claim &inner = claims[0], &outer = claims[i];
    const bool orted = std::string(inner.by->source) == "openmpi" && std::string(outer.by->source) == "slurm";
    const bool same_world = inner.world == outer.world && !orted;
    check(inner.world >= outer.world && (!same_world || inner.rank == outer.rank), Code::input, "[launch] ",
          inner.text(), " contradicts ", outer.text(), "; unset those that are stale");
  }
}

std::string first_of(const Environment& env, std::initializer_list<const char*> names) {
  for (const char* name : names)
    if (const auto value = env(name); value && !value->empty()) return *value;
  return "";
}

// Started by srun, which under --mpi=pmi2 says so in PMI's variables too.
bool of_slurm(const LaunchEnv& e) {
  return e.source == "slurm" || e.source == "pmi";
}

void find_master(const Environment& env, LaunchEnv& e) {
  e.master_host = env("MASTER_ADDR").value_or("");
  e.master_port = number_in(env, "MASTER_PORT", 1).value_or(0);
  check(e.master_port < 65536, Code::input, "[launch] MASTER_PORT=", e.master_port, ": ports end at 65535");
  if (e.master_host.empty() && !e.nodes.empty() && of_slurm(e)) {
    e.master_host = e.nodes.front();
    // A node's name need not be one that resolves; a batch script's srun runs on the first node.
    e.master_fallback = env("SLURM_LAUNCH_NODE_IPADDR").value_or("");
  } else if (e.master_host.empty() && e.local_world == e.world) {
    e.master_host = "127.0.0.1";
  }
  if (e.master_port == 0 && !e.job.empty()) e.master_port = port_of_job(e.job);
}

}  // namespace

LaunchEnv read_launch_env(const Environment& env) {
  LaunchEnv e;
  char name[256] = "";
  ::gethostname(name, sizeof name - 1);
  e.host = name;
  const std::vector<Claim> claims = claims_in(env);
  check_claims(claims);
  const auto pmix = number_in(env, "PMIX_RANK", 0);
  if (!claims.empty()) {
    const Claim& c = claims.front();
    e.source = c.by->source;
    e.rank = c.rank;
    e.world = c.world;
    e.local_rank = number_in(env, c.by->local_rank, 0).value_or(0);
    // "4", or for several nodes "2(x3),1".
    const std::string local = env(c.by->local_world).value_or("");
    const bool plain = !local.empty() && local.find_first_not_of("0123456789") == std::string::npos;
    e.local_world = plain ? number(local, c.by->local_world, 1) : c.world == 1 ? 1 : 0;
    e.mpi = e.source == "openmpi" || (e.source == "slurm" && pmix);
    check(!pmix || !e.mpi || *pmix == e.rank, Code::input, "[launch] ", c.text(),
          " contradicts PMIX_RANK=", pmix.value_or(0), "; unset those that are stale");
  }
  const std::string nodes = first_of(env, {"SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST"});
  if (!nodes.empty()) e.nodes = expand_nodes(nodes);
  e.job = first_of(env, {"SLURM_JOB_ID", "TORCHELASTIC_RUN_ID", "PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid"});
  if (const auto step = env("SLURM_STEP_ID"); step && of_slurm(e)) e.job += "." + *step;
  e.restarts = number_in(env, "SLURM_RESTART_COUNT", 0)
                   .value_or(number_in(env, "TORCHELASTIC_RESTART_COUNT", 0).value_or(0));
  find_master(env, e);
  return e;
}

LaunchEnv read_launch_env() {
  return read_launch_env([](const char* name) -> std::optional<std::string> {
    const char* value = std::getenv(name);
    return value ? std::optional<std::string>(value) : std::nullopt;
  });
}

std::vector<std::string> expand_nodes(const std::string& list) {
  std::vector<std::string> names;
  const auto refuse = [&](const char* why) {
    throw Error(Code::input, "[launch] node list " + list + ": " + why);
  };
  for (size_t i = 0; i < list.size();) {
    size_t end = i, depth = 0;
    for (; end < list.size() && (depth > 0 || list[end] != ','); ++end)
      depth += list[end] == '[' ? 1u : list[end] == ']' && depth > 0 ? size_t(-1) : 0u;
    const std::string item = list.substr(i, end - i);
    i = end + 1;
    const size_t open = item.find('['), close = item.find(']');
    if (open == std::string::npos) {
      if (item.empty()) refuse("an empty name");
      names.push_back(item);
      continue;
    }
    if (close == std::string::npos || close < open) refuse("a bracket that does not close");
    std::string ranges = item.substr(open + 1, close - open - 1) + ",";
    for (size_t at = 0, comma; (comma = ranges.find(',', at)) != std::string::npos; at = comma + 1) {
      const std::string range = ranges.substr(at, comma - at);
      const size_t dash = range.find('-');
      const std::string from = range.substr(0, dash),
                        to = dash == std::string::npos ? from : range.substr(dash + 1);
      const int first = number(from, "a node of " + list, 0), last = number(to, "a node of " + list, 0);
      if (last - first > 100000 || last < first || names.size() > 100000)
        refuse("a range that is too long or runs backwards");
      for (int n = first; n <= last; ++n) {
        std::string digits = std::to_string(n);
        if (digits.size() < from.size()) digits.insert(0, from.size() - digits.size(), '0');
        names.push_back(item.substr(0, open) + digits + item.substr(close + 1));
      }
    }
  }
  return names;
}

int port_of_job(const std::string& job) {
  uint32_t h = 2166136261u;  // FNV-1a
  for (const char c : job) h = (h ^ static_cast<unsigned char>(c)) * 16777619u;
  return 20000 + static_cast<int>(h % 12000);
}

}  // namespace llmctl
