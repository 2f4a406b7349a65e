// SPDX-License-Identifier: Apache-2.0
// Every function on sixteen lanes has the bits of tests/golden/lanes.txt on every instruction set:
// those of x86 on ARM too. test_kernels "[write-lanes]" prints that file.
#include "tests/kernels/lanes.h"

#include <cstdio>
#include <fstream>

#include "kernels/math.h"
#include "tests/kernels/op_check.h"

using namespace llmctl::kn;

namespace {

struct Result {
  uint64_t hashes[kLaneFunctions] = {};
  float border[2] = {};
};
Result run_lanes(Isa isa) {
  Result r;
  run(LaneHashes{.hashes = r.hashes, .border = r.border}, test_exec(isa));
  return r;
}

}  // namespace

TEST_CASE("functions on lanes have the same bits on every instruction set", "[lanes]") {
  for (Isa isa : supported_isas()) {
    const Result r = run_lanes(isa);
    std::ifstream golden("tests/golden/lanes.txt");
    for (int i = 0; i < kLaneFunctions; ++i) {
      std::string name, hash;
      golden >> name >> hash;
      INFO(name_of(isa) << " " << kLaneNames[i]);
      REQUIRE(name == kLaneNames[i]);
      char text[20];
      std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(r.hashes[i]));
      CHECK(text == hash);
    }
    // The one difference: x86 looks at the size after rounding, ARM before it (simd_neon.h).
#ifdef __aarch64__
    const float border = 0.0f;
#else
    const float border = 0x1p-126f;
#endif
    for (float got : r.border) CHECK(math::bits(got) == math::bits(border));
  }
}

TEST_CASE("write the hashes of the functions on lanes", "[.write-lanes]") {
  const Result r = run_lanes(Isa::portable);
  for (int i = 0; i < kLaneFunctions; ++i)
    std::printf("%s %016llx\n", kLaneNames[i], static_cast<unsigned long long>(r.hashes[i]));
}
