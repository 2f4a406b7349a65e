// SPDX-License-Identifier: Apache-2.0
// JSON written as YAML 1.2, by yaml-cpp: the one place that knows it.
#pragma once

#include "core/base/json.h"

namespace llmctl {

// Keys keep their order. Text that YAML would read as a number, a truth value or null is quoted.
std::string yaml_text(const Json& json);

}  // namespace llmctl
