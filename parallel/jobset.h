// SPDX-License-Identifier: Apache-2.0
// A Kubernetes JobSet (jobset.x-k8s.io/v1alpha2) that trains with one rank per pod.
//
// One Indexed Job whose pods find rank 0 by the JobSet's DNS names. A pod that fails ends the Job, and the
// JobSet starts all again, up to max_restarts times: they resume from the last checkpoint and fence off
// whatever lives on (core/train/lease.h). Exit codes that another try would meet again (1 to 5) end the
// JobSet. An evicted pod has SIGTERM and grace_seconds to save.
#pragma once

#include <string>
#include <vector>

#include "core/base/json.h"

namespace llmctl {

struct JobSetOptions {
  std::string name, image, claim;  // claim: a PersistentVolumeClaim all pods mount
  std::string mount = "/data", name_space;
  std::vector<std::string> train;  // arguments of `llmctl train`; paths as the pods see them
  int ranks = 1, gpus_per_rank = 0, max_restarts = 10, grace_seconds = 120, port = 29400;
  std::string cpu = "2", memory = "8Gi";  // of a rank
};

// Error{usage} for a name that Kubernetes would not take.
Json jobset_manifest(const JobSetOptions& options);

}  // namespace llmctl
