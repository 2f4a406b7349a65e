// SPDX-License-Identifier: Apache-2.0
#include "parallel/capacity.h"

#include <catch2/catch.hpp>
#include <thread>

#include "../scratch.h"

using namespace llmctl;

TEST_CASE("the slots file says how many ranks there is room for") {
  const ScratchFolder scratch;
  Capacity alone(4, "", 0), c(4, scratch / "slots", 0);
  CHECK(alone.ranks() == 4);
  CHECK(c.ranks() == 4);  // no file yet
  scratch.put("slots", "2 of us\n");
  CHECK(c.ranks() == 2);
  CHECK(c.why() == (scratch / "slots").string() + " says there is room for 2 ranks");
  for (const char* nothing : {"", "\n", "many", "-1", "3x", "99999999999999999999"}) {
    scratch.put("slots", nothing);
    CHECK(c.ranks() == 2);
  }
  scratch.put("slots", "16");
  CHECK(c.ranks() == 16);
  fs::remove(scratch / "slots");
  CHECK(c.ranks() == 16);
  scratch.put("slots", "0");
  CHECK(c.ranks() == 0);
}

TEST_CASE("a place that was given up comes back when the file is written anew, or after a while") {
  const ScratchFolder scratch;
  scratch.put("slots", "5");
  Capacity c(4, scratch / "slots", 0);
  c.give_up_one(4);  // of five, the world of four could use no more
  CHECK(c.ranks() == 3);
  c.give_up_one(3);
  CHECK(c.ranks() == 2);
  scratch.put("other", "5");
  fs::rename(scratch / "other", scratch / "slots");
  CHECK(c.ranks() == 5);

  Capacity timed(3, "", 0.05);
  timed.give_up_one(3);
  CHECK(timed.ranks() == 2);
  std::this_thread::sleep_for(std::chrono::milliseconds(60));
  CHECK(timed.ranks() == 3);
  CHECK(timed.why() == "0.05 s have passed since a rank was given up");
  timed.give_up_one(3);
  std::this_thread::sleep_for(std::chrono::milliseconds(60));
  CHECK(timed.ranks() == 2);  // twice as long
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  CHECK(timed.ranks() == 3);
}
