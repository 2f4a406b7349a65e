// SPDX-License-Identifier: Apache-2.0
// Serves the fake engine until SIGTERM, for clients of other languages. Hidden: run by name.
//   test_serve "[fake-server]" prints the address; LLMCTL_FAKE_SECONDS bounds its life.
#include <signal.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <iostream>

#include "tests/serve/fixture.h"

using namespace llmctl;
using namespace std::chrono_literals;

namespace {
volatile sig_atomic_t stop_signal = 0;
void on_signal(int) {
  stop_signal = 1;
}
}  // namespace

TEST_CASE("a server to point other clients at", "[.][fake-server]") {
  ::signal(SIGTERM, on_signal);
  const char* set = std::getenv("LLMCTL_FAKE_SECONDS");
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(set ? std::atoi(set) : 60);
  serve::ServerOptions options;
  options.http.port = 0;
  options.version = "test";
  const auto engine = std::make_shared<test::FakeEngine>(test::FakeEngine::Options{.step = 1ms});
  serve::run_server(
      options,
      [&] {
        const auto tokenizer = std::make_shared<const Tokenizer>(test::byte_tokenizer());
        return serve::Loaded{{{"tiny", engine, tokenizer, "fp_test", 1700000000}},
                             std::make_shared<test::WordGuard>()};
      },
      [](const std::string& url) { std::cout << "listening on " << url << std::endl; },
      [&] { return stop_signal != 0 || std::chrono::steady_clock::now() > end; });
  CHECK(engine->stats().running == 0);
}
