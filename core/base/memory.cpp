// SPDX-License-Identifier: Apache-2.0
#include "core/base/memory.h"

#include <fstream>
#include <string>

namespace llmctl {
namespace {

// "KEY:  N kB" of a file under /proc.
int64_t proc_bytes(const char* file, const std::string& key) {
  std::ifstream in(file);
  std::string word;
  while (in >> word) {
    int64_t kib = 0;
    if (word == key + ":" && in >> kib) return kib * 1024;
    in.ignore(1 << 16, '\n');
  }
  return 0;
}

}  // namespace

int64_t resident_bytes() { return proc_bytes("/proc/self/status", "VmRSS"); }
int64_t peak_resident_bytes() { return proc_bytes("/proc/self/status", "VmHWM"); }
int64_t available_bytes() { return proc_bytes("/proc/meminfo", "MemAvailable"); }

}  // namespace llmctl
