// SPDX-License-Identifier: Apache-2.0
#include "core/nn/sharding.h"

namespace llmctl {

MeshShape Sharding::shape() const {
  MeshShape s = axes;
  s.dp = 1;
  s.dp = ranks / s.ranks();
  return s;
}

}  // namespace llmctl
