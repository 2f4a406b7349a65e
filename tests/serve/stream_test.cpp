// SPDX-License-Identifier: Apache-2.0
// Server-sent events, clients that leave, many clients at once, and the drain.
#include <catch2/catch.hpp>
#include <functional>
#include <thread>

#include "tests/serve/fixture.h"

using namespace llmctl;
using namespace llmctl::test;
using namespace std::chrono_literals;

namespace {

bool soon(const std::function<bool()>& holds) {
  for (int i = 0; i < 300 && !holds(); ++i) std::this_thread::sleep_for(10ms);
  return holds();
}

std::string raw_post(const std::string& path, const Json& body) {
  const std::string text = body.dump();
  return "POST " + path + " HTTP/1.1\r\nhost: t\r\ncontent-type: application/json\r\ncontent-length: " +
         std::to_string(text.size()) + "\r\n\r\n" + text;
}

}  // namespace

TEST_CASE("a streamed chat has the chunks that clients expect") {
  Served served({.step = 500us});
  Client client(served.port());
  Json body = chat_body("h\xC3\xA9!", 100);
  body["stream"] = true;
  body["stream_options"] = {{"include_usage", true}};
  body["return_token_ids"] = true;
  const Answer answer = client.post("/v1/chat/completions", body);
  CHECK(answer.status == 200);
  CHECK(answer.headers.at("content-type").find("text/event-stream") == 0);
  CHECK(answer.headers.count("x-request-id") == 1);
  const Events events = events_of(answer.body);
  CHECK(events.done);
  REQUIRE(events.json.size() > 4);
  CHECK(events.json.front()["choices"][0]["delta"]["role"] == "assistant");
  std::string text;
  std::vector<int> ids;
  for (const Json& e : events.json) {
    CHECK(e["object"] == "chat.completion.chunk");
    CHECK(e["id"] == events.json.front()["id"]);
    if (e["choices"].empty()) continue;
    const Json& choice = e["choices"][0];
    text += choice["delta"].value("content", "");
    if (choice.contains("token_ids"))
      for (const Json& id : choice["token_ids"]) ids.push_back(id.get<int>());
  }
  CHECK(text == "user\nh\xC3\xA9!");
  CHECK(ids.size() == 11);
  CHECK(ids.back() == kImEnd);
  const Json& closing = events.json[events.json.size() - 2]["choices"][0];
  CHECK(closing["finish_reason"] == "stop");
  CHECK(closing["delta"].empty());
  const Json& last = events.json.back();
  CHECK(last["choices"].empty());
  CHECK(last["usage"]["completion_tokens"] == 11);
  CHECK(events.json[1]["usage"].is_null());
}

TEST_CASE("a streamed completion with echo, n and stop equals the whole one") {
  Served served({.step = 200us});
  Client client(served.port());
  Json body = {{"prompt", Json::array({"alpha beta ", "xy"})},
               {"max_tokens", 30},
               {"stop", "ta al"},
               {"n", 2},
               {"echo", true},
               {"logprobs", 1}};
  const Json whole = client.post("/v1/completions", body).json();
  body["stream"] = true;
  const Events events = events_of(client.post("/v1/completions", body).body);
  std::vector<std::string> text(4), reason(4);
  std::vector<size_t> tokens(4);
  for (const Json& e : events.json) {
    const Json& choice = e["choices"][0];
    const size_t i = choice["index"].get<size_t>();
    text[i] += choice["text"].get<std::string>();
    if (!choice["finish_reason"].is_null()) reason[i] += choice["finish_reason"].get<std::string>();
    if (!choice["logprobs"].is_null()) tokens[i] += choice["logprobs"]["tokens"].size();
  }
  for (size_t i = 0; i < 4; ++i) {
    CHECK(text[i] == whole["choices"][i]["text"].get<std::string>());
    CHECK(reason[i] == whole["choices"][i]["finish_reason"].get<std::string>());
    CHECK(tokens[i] == whole["choices"][i]["logprobs"]["tokens"].size());
  }
  CHECK(text[0] == "alpha beta alpha be");
  CHECK(reason[2] == "length");
}

TEST_CASE("HTTP/1.0 gets its stream without chunks, until close") {
  Served served;
  Client client(served.port());
  const std::string body = Json({{"prompt", "ab"}, {"stream", true}}).dump();
  client.send("POST /v1/completions HTTP/1.0\r\ncontent-length: " + std::to_string(body.size()) + "\r\n\r\n" +
              body);
  const Answer answer = client.read();
  CHECK(answer.headers.count("transfer-encoding") == 0);
  CHECK(events_of(answer.body).done);
}

TEST_CASE("a client that hangs up cancels its request") {
  Served served({.context = 1 << 20, .step = 1ms});
  SECTION("while streaming") {
    Client client(served.port());
    Json body = chat_body("a", 100000);
    body["stream"] = body["ignore_eos"] = true;
    client.send(raw_post("/v1/chat/completions", body));
    REQUIRE(soon([&] { return client.more(10) && client.pending().find("data: ") != std::string::npos; }));
    client.hang_up();
  }
  SECTION("while waiting for a whole answer of several choices") {
    Client client(served.port());
    const Json body = {{"prompt", "abc"}, {"max_tokens", 100000}, {"n", 2}};
    client.send(raw_post("/v1/completions", body));
    REQUIRE(soon([&] { return served.engine->stats().running == 2; }));
    client.hang_up();
  }
  CHECK(soon([&] { return served.engine->stats().running == 0; }));
  CHECK(served.engine->cancelled() >= 1);
  CHECK(served.healthy());
}

TEST_CASE("a client that does not read is dropped at the write time-out") {
  serve::ServerOptions options;
  options.http.limits.write_time = 200ms;
  Served served({.context = 1 << 24}, options);
  Client client(served.port());
  const Json body = {{"prompt", "abc"}, {"max_tokens", 10'000'000}, {"stream", true}, {"logprobs", 1}};
  client.send(raw_post("/v1/completions", body));
  REQUIRE(soon([&] { return served.engine->stats().running == 1; }));
  CHECK(soon([&] { return served.engine->stats().running == 0; }));
  CHECK(served.healthy());
}

TEST_CASE("sixteen clients at once share the batch and get their own text") {
  Served served({.step = 1ms});
  std::vector<std::thread> threads;
  std::vector<std::string> got(16);
  for (size_t i = 0; i < 16; ++i)
    threads.emplace_back([&, i] {
      Client client(served.port());
      const std::string prompt = "client " + std::to_string(i) + ' ';
      Json body = {{"prompt", prompt}, {"max_tokens", 60}, {"stream", i % 2 == 1}};
      const Answer answer = client.post("/v1/completions", body);
      if (i % 2 == 0) {
        got[i] = answer.json()["choices"][0]["text"].get<std::string>();
      } else {
        for (const Json& e : events_of(answer.body).json)
          got[i] += e["choices"][0]["text"].get<std::string>();
      }
    });
  for (auto& t : threads) t.join();
  for (size_t i = 0; i < 16; ++i) {
    std::string expected;
    while (expected.size() < 60) expected += "client " + std::to_string(i) + ' ';
    CHECK(got[i] == expected.substr(0, 60));
  }
  CHECK(served.engine->widest_batch() >= 8);
}

TEST_CASE("stop drains: running requests finish, new ones find no server") {
  serve::ServerOptions options;
  options.drain_time = 10s;
  Served served({.step = 2ms}, options);
  Client idle(served.port());
  CHECK(idle.get("/health").status == 200);
  Client busy(served.port());
  const Json body = {{"prompt", "abc"}, {"max_tokens", 200}};
  busy.send(raw_post("/v1/completions", body));
  REQUIRE(soon([&] { return served.engine->stats().running == 1; }));
  const int port = served.port();
  const auto begin = std::chrono::steady_clock::now();
  std::thread stopper([&] { served.server->stop(); });
  const Answer answer = busy.read();
  CHECK(answer.status == 200);
  CHECK(answer.headers.at("connection") == "close");
  CHECK(answer.json()["usage"]["completion_tokens"] == 200);
  stopper.join();
  CHECK(idle.closed(100));
  CHECK_THROWS(Client(port));
  CHECK(std::chrono::steady_clock::now() - begin < 5s);
}

TEST_CASE("the drain has a limit, after which requests are cancelled") {
  serve::ServerOptions options;
  options.drain_time = 100ms;
  Served served({.context = 1 << 24, .step = 1ms}, options);
  Client busy(served.port());
  busy.send(raw_post("/v1/completions", {{"prompt", "abc"}, {"max_tokens", 1'000'000}}));
  REQUIRE(soon([&] { return served.engine->stats().running == 1; }));
  served.server->stop();
  CHECK(busy.closed(1000));
  CHECK(soon([&] { return served.engine->cancelled() == 1; }));
}

TEST_CASE("health says loading before the model is there") {
  serve::ServerOptions options;
  options.http.port = 0;
  serve::Server server(options);
  Client client(server.port());
  CHECK(client.get("/health").status == 503);
  CHECK(client.get("/v1/models").json()["error"]["code"] == "loading");
  server.ready({}, nullptr);
  CHECK(client.get("/health").status == 200);
}
