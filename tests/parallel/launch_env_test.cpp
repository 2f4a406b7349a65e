// SPDX-License-Identifier: Apache-2.0
#include "parallel/launch_env.h"

#include <catch2/catch.hpp>
#include <map>

#include "../scratch.h"
#include "core/base/mesh.h"
#include "parallel/thread_world.h"
#include "parallel/world.h"

using namespace llmctl;

namespace {

using Variables = std::map<std::string, std::string>;

LaunchEnv read(const Variables& variables) {
  return read_launch_env([&](const char* name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    return found == variables.end() ? std::nullopt : std::optional(found->second);
  });
}

Variables with(Variables a, const Variables& b) {
  for (const auto& [name, value] : b) a[name] = value;
  return a;
}

const Variables kSlurm = {{"SLURM_JOB_ID", "42"},
                          {"SLURM_STEP_ID", "0"},
                          {"SLURM_PROCID", "5"},
                          {"SLURM_STEP_NUM_TASKS", "8"},
                          {"SLURM_LOCALID", "1"},
                          {"SLURM_STEP_TASKS_PER_NODE", "4(x2)"},
                          {"SLURM_STEP_NODELIST", "n[1-2]"},
                          {"SLURM_LAUNCH_NODE_IPADDR", "127.0.0.1"}};
const Variables kOpenMpi = {{"OMPI_COMM_WORLD_RANK", "2"},
                            {"OMPI_COMM_WORLD_SIZE", "4"},
                            {"OMPI_COMM_WORLD_LOCAL_RANK", "2"},
                            {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"},
                            {"PMIX_RANK", "2"},
                            {"PMIX_NAMESPACE", "123"}};
const Variables kTorch = {{"RANK", "3"},           {"WORLD_SIZE", "4"},
                          {"LOCAL_RANK", "1"},     {"LOCAL_WORLD_SIZE", "2"},
                          {"MASTER_ADDR", "head"}, {"MASTER_PORT", "29500"}};

}  // namespace

TEST_CASE("a process started by hand is a world of one") {
  const LaunchEnv e = read({});
  CHECK(e.source == "none");
  CHECK(e.world == 1);
  CHECK(engine_for(e, {}) == "none");
  CHECK(engine_for(e, {.ranks = 4}) == "threads");
}

TEST_CASE("each launcher's variables are read") {
  const LaunchEnv slurm = read(kSlurm);
  CHECK(slurm.source == "slurm");
  CHECK((slurm.rank == 5 && slurm.world == 8 && slurm.local_rank == 1 && slurm.local_world == 0));
  CHECK(slurm.nodes == std::vector<std::string>{"n1", "n2"});
  CHECK(slurm.job == "42.0");
  CHECK(slurm.master_host == "n1");
  CHECK(slurm.master_fallback == "127.0.0.1");
  CHECK(slurm.master_port == port_of_job("42.0"));
  CHECK(!slurm.mpi);
  CHECK(read(with(kSlurm, {{"PMIX_RANK", "5"}})).mpi);
  const LaunchEnv mpi = read(kOpenMpi);
  CHECK((mpi.source == "openmpi" && mpi.rank == 2 && mpi.world == 4 && mpi.local_world == 4 && mpi.mpi));
  CHECK(mpi.master_host == "127.0.0.1");
  const LaunchEnv torch = read(kTorch);
  CHECK((torch.source == "torchrun" && torch.rank == 3 && torch.world == 4 && torch.local_rank == 1));
  CHECK((torch.master_host == "head" && torch.master_port == 29500 && torch.local_world == 2 && !torch.mpi));
  CHECK(engine_for(torch, {}) == "tcp");
  const LaunchEnv pmi = read({{"PMI_RANK", "1"}, {"PMI_SIZE", "2"}});
  CHECK((pmi.source == "pmi" && pmi.rank == 1 && pmi.world == 2));
  const LaunchEnv pmi2 = read(with(kSlurm, {{"PMI_RANK", "5"}, {"PMI_SIZE", "8"}}));
  CHECK((pmi2.source == "pmi" && pmi2.master_host == "n1" && pmi2.job == "42.0" &&
         engine_for(pmi2, {}) == "tcp"));
}

TEST_CASE("the innermost launcher wins, and a batch script is one process") {
  // mpirun in a Slurm allocation starts one task a node, which starts the ranks.
  const LaunchEnv e =
      read(with(with(kSlurm, {{"SLURM_STEP_NUM_TASKS", "2"}, {"SLURM_PROCID", "1"}}), kOpenMpi));
  CHECK((e.source == "openmpi" && e.rank == 2 && e.world == 4));
  const LaunchEnv batch = read({{"SLURM_JOB_ID", "42"}, {"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "8"}});
  CHECK((batch.source == "none" && batch.world == 1));
}

TEST_CASE("contradictions are refused in one line") {
  for (const Variables& v :
       {Variables{{"RANK", "0"}}, Variables{{"WORLD_SIZE", "4"}},
        Variables{{"RANK", "4"}, {"WORLD_SIZE", "4"}}, Variables{{"RANK", "x"}, {"WORLD_SIZE", "4"}},
        Variables{{"RANK", "-1"}, {"WORLD_SIZE", "4"}}, with(kTorch, {{"MASTER_PORT", "70000"}}),
        with(kSlurm, {{"RANK", "0"}, {"WORLD_SIZE", "1"}}),
        with(kSlurm, {{"RANK", "0"}, {"WORLD_SIZE", "8"}}), with(kOpenMpi, {{"PMIX_RANK", "1"}}),
        with(kSlurm, {{"SLURM_STEP_NODELIST", "n[1-"}})}) {
    CAPTURE(v);
    CHECK(code_of([&] { read(v); }) == Code::input);
  }
  const LaunchEnv unknown = read({{"RANK", "1"}, {"WORLD_SIZE", "4"}});
  CHECK(code_of([&] { run_world(unknown, {}, [](Comm&) {}); }) == Code::usage);  // where is rank 0?
  CHECK(code_of([&] { run_world(unknown, {.engine = "threads"}, [](Comm&) {}); }) == Code::usage);
  CHECK(code_of([&] { run_world(read({}), {.engine = "pigeons"}, [](Comm&) {}); }) == Code::usage);
}

TEST_CASE("node lists are expanded") {
  CHECK(expand_nodes("a") == std::vector<std::string>{"a"});
  CHECK(expand_nodes("n[1-3,7],g[08-10]x,b") ==
        std::vector<std::string>{"n1", "n2", "n3", "n7", "g08x", "g09x", "g10x", "b"});
  for (const char* bad : {"n[1-", "n[3-1]", "n[1-9999999]", "n[a]", "a,,b"})
    CHECK(code_of([&] { expand_nodes(bad); }) == Code::input);
}

TEST_CASE("a mesh names its axes, tp innermost, and makes their groups") {
  const MeshShape shape{.dp = 2, .pp = 2, .tp = 2};
  CHECK(shape.text() == "pp 2 x dp 2 x tp 2");
  for (int r = 0; r < 8; ++r) {
    const auto at = coordinates(shape, r);
    CHECK(rank_at(shape, at) == r);
    CHECK((at[0] == r % 2 && at[3] == r / 2 % 2 && at[4] == r / 4));
  }
  run_threads(8, 60, [&](Comm& world) {
    Mesh mesh(world, shape);
    const auto sum = [&](Comm& c) {
      return all_reduce_one(c, int64_t{1} << world.rank(), CommOp::sum, "sum");
    };
    const int r = world.rank();
    check(mesh.at(Axis::tp) == r % 2 && mesh.group(Axis::tp).rank() == r % 2, Code::no, "tp");
    check(sum(mesh.group(Axis::tp)) == int64_t{3} << (r & ~1), Code::no, "tp group of ", r);
    check(sum(mesh.group(Axis::dp)) == int64_t{5} << (r & ~2), Code::no, "dp group of ", r);
    check(sum(mesh.group(Axis::pp)) == int64_t{17} << (r & ~4), Code::no, "pp group of ", r);
    check(sum(mesh.group({Axis::dp, Axis::tp})) == int64_t{15} << (r & ~3), Code::no, "dp-tp group of ", r);
    check(mesh.group({Axis::tp, Axis::dp}).rank() == r % 4, Code::no, "order in a group of two axes");
    check(mesh.group(Axis::cp).size() == 1 && mesh.group({Axis::pp, Axis::dp, Axis::tp}).size() == 8,
          Code::no, "sizes");
    check(error_code([&] { Mesh(world, {.dp = 3}); }) == Code::input, Code::no,
          "a world that does not divide");
  });
}
