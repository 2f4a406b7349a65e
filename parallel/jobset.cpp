// SPDX-License-Identifier: Apache-2.0
#include "parallel/jobset.h"

#include <fmt/format.h>

#include <algorithm>

namespace llmctl {
namespace {

void check_name(const std::string& what, const std::string& name, size_t most) {
  const auto plain = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; };
  check(!name.empty() && name.size() <= most && std::all_of(name.begin(), name.end(), plain) && name.front() != '-' &&
            name.back() != '-',
        Code::usage, "[launch] ", what, " ", name, ": Kubernetes takes up to ", most, " of a-z, 0-9 and - within");
}

Json from_label(const std::string& variable, const std::string& path) {
  return {{"name", variable}, {"valueFrom", {{"fieldRef", {{"fieldPath", path}}}}}};
}

Json environment(const JobSetOptions& o) {
  // Pod 0 of Job 0 of the replicated job "rank", in the JobSet's own subdomain.
  const std::string master = fmt::format("{}-rank-0-0.{}", o.name, o.name);
  return {from_label("RANK", "metadata.annotations['batch.kubernetes.io/job-completion-index']"),
          {{"name", "WORLD_SIZE"}, {"value", std::to_string(o.ranks)}},
          {{"name", "LOCAL_RANK"}, {"value", "0"}},
          {{"name", "LOCAL_WORLD_SIZE"}, {"value", "1"}},
          {{"name", "MASTER_ADDR"}, {"value", master}},
          {{"name", "MASTER_PORT"}, {"value", std::to_string(o.port)}},
          {{"name", "TORCHELASTIC_RUN_ID"}, {"value", o.name}},
          from_label("TORCHELASTIC_RESTART_COUNT", "metadata.labels['jobset.sigs.k8s.io/restart-attempt']"),
          from_label("LLMCTL_COMM_TOKEN", "metadata.labels['batch.kubernetes.io/controller-uid']")};
}

Json container(const JobSetOptions& o) {
  Json arguments = {"train"};
  for (const std::string& word : o.train) arguments.push_back(word);
  for (const char* word : {"--resume", "--take-over"}) arguments.push_back(word);
  Json limits = {{"cpu", o.cpu}, {"memory", o.memory}};
  if (o.gpus_per_rank > 0) limits["nvidia.com/gpu"] = std::to_string(o.gpus_per_rank);
  return {{"name", "llmctl"},
          {"image", o.image},
          {"command", {"llmctl"}},
          {"args", arguments},
          {"env", environment(o)},
          {"ports", {{{"name", "rendezvous"}, {"containerPort", o.port}}}},
          {"resources", {{"requests", limits}, {"limits", limits}}},
          {"volumeMounts", {{{"name", "data"}, {"mountPath", o.mount}}}}};
}

}  // namespace

Json jobset_manifest(const JobSetOptions& o) {
  check_name("--name", o.name, 40);  // pods add "-rank-0-N-" and five letters, of 63
  check_name("--claim", o.claim, 63);
  check(!o.image.empty(), Code::usage, "[launch] name the container's image with --image");
  const Json pod = {{"restartPolicy", "Never"},
                    {"terminationGracePeriodSeconds", o.grace_seconds},
                    {"containers", {container(o)}},
                    {"volumes", {{{"name", "data"}, {"persistentVolumeClaim", {{"claimName", o.claim}}}}}}};
  const Json final_codes = {{"containerName", "llmctl"}, {"operator", "In"}, {"values", {1, 2, 3, 4, 5}}};
  const Json job = {{"parallelism", o.ranks},
                    {"completions", o.ranks},
                    {"completionMode", "Indexed"},
                    {"backoffLimit", 0},
                    {"podFailurePolicy", {{"rules", {{{"action", "FailJob"}, {"onExitCodes", final_codes}}}}}},
                    {"template", {{"spec", pod}}}};
  const Json final_rule = {{"name", "final"}, {"action", "FailJobSet"}, {"onJobFailureReasons", {"PodFailurePolicy"}}};
  Json metadata = {{"name", o.name}};
  if (!o.name_space.empty()) metadata["namespace"] = o.name_space;
  return {{"apiVersion", "jobset.x-k8s.io/v1alpha2"},
          {"kind", "JobSet"},
          {"metadata", metadata},
          {"spec",
           {{"network", {{"enableDNSHostnames", true}, {"publishNotReadyAddresses", true}}},
            {"failurePolicy", {{"maxRestarts", o.max_restarts}, {"rules", {final_rule}}}},
            {"replicatedJobs", {{{"name", "rank"}, {"replicas", 1}, {"template", {{"spec", job}}}}}}}}};
}

}  // namespace llmctl
