// SPDX-License-Identifier: Apache-2.0
// The cases of the CPU's op tests on a device, with LLMCTL_TEST_DEVICE=cuda: each op that a test checks
// on every instruction set runs there too, on copies of its buffers, and is held to what its header
// states as `bits:`. Without a device such a run ends with `no device` and exit status 6.
//
// An op is plain data, so the places where it points into a buffer of the test (op_check.h registers
// them) are found in its bytes and point to the copy instead.
#pragma once

#include <cstdint>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "kernels/device.h"
#include "kernels/error.h"

namespace llmctl::kn {

// Level of an op as kernels/*.h states it: the last `bits:` above its kName.
enum class Level : uint8_t { same_bits, backend };
Level level_of(const std::string& op);

// Where the tests' buffers lie: address of the first byte and length, fences included.
struct Registry {
  static std::map<const char*, size_t>& all() {
    static std::map<const char*, size_t> buffers;
    return buffers;
  }
  // The buffer that holds p, or the end.
  static std::map<const char*, size_t>::iterator holding(const char* p) {
    auto it = all().upper_bound(p);
    if (it == all().begin()) return all().end();
    --it;
    return p < it->first + it->second ? it : all().end();
  }
};

// The device that tests are to run on besides the CPU, or null.
const Exec* device_under_test();
// For the table that ends the run.
void note_device_case(const char* op, double error);
void note_device_refusal(const char* op);

// Copies of the buffers that an op names, and the op over them.
template <class Op>
class OnDevice {
 public:
  OnDevice(const Op& op, const Exec& ex) : ex_(ex), op_(op) {
    static_assert(std::is_trivially_copyable_v<Op> && alignof(Op) >= alignof(void*));
    for (size_t at = 0; at + sizeof(void*) <= sizeof(Op); at += sizeof(void*)) {
      char* p;
      std::memcpy(&p, reinterpret_cast<const char*>(&op) + at, sizeof p);
      const auto buffer = Registry::holding(p);
      if (buffer == Registry::all().end()) continue;
      Copy& copy = copies_[buffer->first];
      if (!copy.device) {
        copy.bytes = static_cast<int64_t>(buffer->second);
        copy.device = static_cast<char*>(device_allocate(ex.device, copy.bytes));
        copy.before.assign(buffer->first, buffer->second);
      }
      p = copy.device + (p - buffer->first);
      std::memcpy(reinterpret_cast<char*>(&op_) + at, &p, sizeof p);
    }
  }
  ~OnDevice() {
    for (auto& [host, copy] : copies_) device_free(ex_.device, copy.device);
  }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

  // Runs on what the buffers hold now; `buffers` by host address holds what they would hold after.
  std::map<const char*, std::string> run_once() { return run_once(ex_); }
  std::map<const char*, std::string> run_once(const Exec& ex) {
    for (auto& [host, copy] : copies_) {
      copy.before.assign(host, static_cast<size_t>(copy.bytes));
      upload(ex_, copy.device, copy.before.data(), copy.bytes);
    }
    wait(ex_);
    run(op_, ex);
    std::map<const char*, std::string> after;
    for (auto& [host, copy] : copies_) {
      std::string& bytes = after[host];
      bytes.resize(static_cast<size_t>(copy.bytes));
      download(ex_, bytes.data(), copy.device, copy.bytes);
    }
    return after;
  }

 private:
  struct Copy {
    char* device = nullptr;
    int64_t bytes = 0;
    std::string before;
  };
  const Exec& ex_;
  Op op_;
  std::map<const char*, Copy> copies_;
};

}  // namespace llmctl::kn
