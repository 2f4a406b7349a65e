// SPDX-License-Identifier: Apache-2.0
// What the planner knows of devices: a table that users extend with a file of the same form.
#pragma once

#include <string>
#include <vector>

#include "core/base/json.h"

namespace llmctl {

// Rates per second and of one device; network per device, when all of a node's devices use it. A row without gemm or
// attention has the H100's: shares of the peak that products and fused attention reach (tests/bench/planner_fit.py).
struct Hardware {
  std::string name;
  double flops = 0;         // dense bf16
  double memory = 0;        // bytes
  double memory_rate = 0;   // bytes
  double link_rate = 0;     // bytes, to devices of the same node, one way
  double network_rate = 0;  // bytes, one way
  double node = 1;          // devices of a node
  double watts = 0;         // with its share of the node, under load
  double price = 0;         // per hour, in the currency of the table
  double gemm = 0, attention = 0;
};

// {"devices": {"NAME": {"tflops", "memory_gb", "memory_gbps", "link_gbps", "network_gbps", "node", "watts", "price",
// "gemm", "attention"}}}: powers of ten, bytes; fields that a row of the same name already has may be left out. Later
// files override earlier ones. Error{input} for unknown fields and for values that are no positive numbers.
std::vector<Hardware> read_hardware(const Json& json, const std::string& who, std::vector<Hardware> known = {});
// The rows that come with the program.
const std::vector<Hardware>& known_hardware();
// Error{input} naming those there are. Letter case does not matter.
const Hardware& hardware_named(const std::vector<Hardware>& rows, const std::string& name);

}  // namespace llmctl
