// SPDX-License-Identifier: Apache-2.0
// Mutated requests against the HTTP and JSON parsers: the server never answers a client's fault
// with 5xx and is well afterwards. LLMCTL_FUZZ_SECONDS sets the time, LLMCTL_FUZZ_SEED the seed.
#include <catch2/catch.hpp>
#include <cstdlib>

#include "tests/serve/fixture.h"

using namespace llmctl;
using namespace llmctl::test;
using namespace std::chrono_literals;

namespace {

struct Random {  // splitmix64
  uint64_t state;
  uint64_t next() {
    uint64_t z = state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  size_t below(size_t n) { return static_cast<size_t>(next() % n); }
};

std::vector<std::string> seeds() {
  Json chat = chat_body("caf\xC3\xA9 \\u00e9", 3);
  chat.update({{"stream", true},
               {"stream_options", {{"include_usage", true}}},
               {"stop", Json::array({"a", "b"})},
               {"logit_bias", {{"5", 1.5}}},
               {"temperature", 0.5},
               {"n", 2},
               {"logprobs", true}});
  const Json completion = {{"prompt", Json::array({Json::array({1, 2}), Json::array({3})})},
                           {"max_tokens", 2},
                           {"echo", true},
                           {"logprobs", 1}};
  return {chat.dump(), completion.dump(), Json({{"prompt", "x"}, {"max_tokens", 1}}).dump(),
          Json({{"input", Json::array({"a", "b"})}}).dump(), Json({{"tokens", {1, 2, 3}}}).dump()};
}

std::string mutated(std::string text, Random& random) {
  static const std::vector<std::string> pieces{"{",
                                               "}",
                                               "[",
                                               "]",
                                               "\"",
                                               ":",
                                               ",",
                                               "null",
                                               "true",
                                               "-1",
                                               "1e999",
                                               "99999999999999999999",
                                               "\\u0000",
                                               "\\ud800",
                                               "\xff",
                                               "\r\n",
                                               "\r\n\r\n",
                                               " ",
                                               "%",
                                               "0",
                                               "\"n\":0",
                                               "chunked",
                                               "content-length: 7\r\n",
                                               "\t"};
  for (size_t edits = 1 + random.below(4); edits > 0; --edits) {
    if (text.empty()) text = "x";
    const size_t at = random.below(text.size());
    switch (random.below(6)) {
      case 0:
        text[at] = static_cast<char>(random.next());
        break;
      case 1:
        text[at] = static_cast<char>(text[at] ^ (1 << random.below(8)));
        break;
      case 2:
        text.erase(at, 1 + random.below(8));
        break;
      case 3:
        text.insert(at, pieces[random.below(pieces.size())]);
        break;
      case 4:
        text.insert(at, text.substr(random.below(text.size()), random.below(40)));
        break;
      default:
        text.resize(at + 1);
    }
  }
  return text;
}

std::string request_of(const std::string& body, Random& random) {
  static const char* const paths[] = {"/v1/chat/completions", "/v1/completions", "/v1/moderations",
                                      "/tokenize", "/detokenize"};
  return "POST " + std::string(paths[random.below(5)]) +
         " HTTP/1.1\r\nhost: t\r\ncontent-type: application/json\r\ncontent-length: " +
         std::to_string(body.size()) + "\r\n\r\n" + body;
}

int seconds() {
  const char* set = std::getenv("LLMCTL_FUZZ_SECONDS");
  return set ? std::atoi(set) : 20;
}

// Reads what came back, if anything: half a request gets no answer until its time-out.
void expect_client_status(Client& client, bool whole, const std::string& sent) {
  const Answer answer = client.read(false, whole ? 3000 : 2);
  const bool ok = answer.status == 505 || (answer.status < 500 && (answer.status > 0 || !whole));
  if (!ok) INFO(sent.substr(0, 2000));
  CHECK(ok);
}

}  // namespace

TEST_CASE("fuzz: mutated bodies and mutated requests") {
  serve::ServerOptions options;
  options.http.limits.header_time = options.http.limits.body_time = 1s;
  Served served({}, options);
  const char* seed_text = std::getenv("LLMCTL_FUZZ_SEED");
  Random random{seed_text ? std::strtoull(seed_text, nullptr, 10) : 1};
  const auto originals = seeds();
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds());
  size_t rounds = 0;
  for (; std::chrono::steady_clock::now() < end; ++rounds) {
    const std::string& original = originals[random.below(originals.size())];
    const bool in_body = random.below(3) != 0;
    const std::string sent = in_body ? request_of(mutated(original, random), random)
                                     : mutated(request_of(original, random), random);
    Client client(served.port());
    client.send(sent);
    expect_client_status(client, in_body, sent);
    if (rounds % 500 == 0) CHECK(served.healthy());
  }
  CHECK(served.healthy());
  WARN(rounds << " mutated requests");
}
