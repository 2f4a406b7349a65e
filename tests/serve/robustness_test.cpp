// SPDX-License-Identifier: Apache-2.0
// Bytes that are no request, too much of everything, and too slowly: the right status, and the
// server goes on.
#include <catch2/catch.hpp>
#include <thread>

#include "tests/serve/fixture.h"

using namespace llmctl;
using namespace llmctl::test;
using namespace std::chrono_literals;

namespace {

serve::ServerOptions small_limits() {
  serve::ServerOptions options;
  options.http.limits.body_bytes = 4096;
  options.http.limits.header_bytes = 4096;
  options.http.limits.target_bytes = 1024;
  options.http.limits.header_time = 400ms;
  options.http.limits.body_time = 400ms;
  options.http.limits.idle_time = 400ms;
  options.http.limits.connections = 20;
  return options;
}

Answer raw(int port, const std::string& bytes) {
  Client client(port);
  client.send(bytes);
  return client.read();
}

std::string post_head(const std::string& headers) {
  return "POST /v1/completions HTTP/1.1\r\nhost: t\r\n" + headers + "\r\n";
}

}  // namespace

TEST_CASE("malformed requests get their status at once") {
  serve::ServerOptions options = small_limits();
  options.http.limits.header_time = 30s;  // an answer at once is not the time-out's
  Served served({}, options);
  struct Case {
    std::string bytes;
    int status;
  };
  const std::string many(5000, 'x');
  const Case cases[] = {
      {"garbage\r\n\r\n", 400},
      {"\x16\x03\x01\x02\x01\x01", 400},
      {"GET /health HTTP/1.1\n\n", 400},
      {"GET  /health HTTP/1.1\r\n\r\n", 400},
      {"GET /health HTTP/3.9\r\n\r\n", 505},
      {"GET /health\r\n\r\n", 400},
      {"GET /health HTTP/1.1\r\nbad header\r\n\r\n", 400},
      {"GET /health HTTP/1.1\r\n: x\r\n\r\n", 400},
      {post_head("content-length: abc\r\n"), 400},
      {post_head("content-length: -1\r\n"), 400},
      {post_head("content-length: 5\r\ncontent-length: 6\r\n"), 400},
      {post_head("content-length: 5\r\ntransfer-encoding: chunked\r\n"), 400},
      {post_head("transfer-encoding: chunked\r\n") + "zz\r\n", 400},
      {post_head("transfer-encoding: chunked\r\n") + "ffffffffffffffffff\r\n", 400},
      {post_head("content-length: 99999\r\n"), 413},
      {post_head("content-length: 99999999999999999999999\r\n"), 400},
      {post_head("transfer-encoding: chunked\r\n") + "2000\r\n" + many + many, 413},
      {post_head(""), 411},
      {post_head("content-length: 2\r\ncontent-type: text/plain\r\n") + "{}", 415},
      {post_head("content-length: 2\r\ncontent-encoding: gzip\r\n") + "{}", 415},
      {post_head("content-length: 2\r\nexpect: magic\r\n") + "{}", 417},
      {"GET /" + std::string(2000, 'a') + " HTTP/1.1\r\n\r\n", 414},
      {"GET /" + many + many + " HTTP/1.1\r\n\r\n", 414},
      {"GET /health HTTP/1.1\r\nx: " + many + "\r\n\r\n", 431},
      {"GET /nowhere HTTP/1.1\r\n\r\n", 404},
      {"DELETE /v1/models HTTP/1.1\r\n\r\n", 405},
      {"FROBNICATE /v1/models HTTP/1.1\r\n\r\n", 405},
  };
  for (const Case& c : cases) {
    const Answer answer = raw(served.port(), c.bytes);
    INFO(c.bytes.substr(0, 120) << " -> " << answer.body);
    CHECK(answer.status == c.status);
    if (answer.status == 0) continue;
    CHECK(answer.headers.count("x-request-id") == 1);
    CHECK(answer.json()["error"].size() == 4);
    if (c.status == 405) CHECK(answer.headers.at("allow") == "GET, HEAD");
    if (c.status == 405) CHECK(answer.headers.at("connection") == "keep-alive");
  }
  CHECK(served.healthy());
}

TEST_CASE("bodies that are not the JSON they should be") {
  Served served;
  Client client(served.port());
  std::string deep(50000, '[');
  std::string closed = "{\"a\":" + deep + std::string(50000, ']') + "}";
  std::string objects;
  for (int i = 0; i < 50000; ++i) objects += "{\"a\":";
  for (const std::string& body :
       {std::string(), std::string("{"), std::string("[]"), std::string("null"), std::string("{\"a\":1,}"),
        deep, closed, objects, std::string("{\"prompt\":\"\xff\xfe\"}"),
        std::string("{\"prompt\":\"\\ud800\"}"), std::string("{\"prompt\":\"a\0b\"}", 16),
        std::string("{\"n\":1e999}"), std::string(100000, '9')}) {
    const Answer answer = client.request("POST", "/v1/completions", body);
    INFO(body.substr(0, 40) << " -> " << answer.body);
    REQUIRE(answer.status == 400);
    CHECK(answer.json()["error"].size() == 4);
    CHECK(answer.body.size() < 1000);
  }
  // Many keys must not cost the square of their number.
  std::string wide = "{\"prompt\":\"x\"";
  for (int i = 0; i < 200000; ++i) wide += ",\"k" + std::to_string(i) + "\":0";
  const auto begin = std::chrono::steady_clock::now();
  CHECK(client.request("POST", "/v1/completions", wide + '}').status == 200);
  CHECK(std::chrono::steady_clock::now() - begin < 5s);
}

TEST_CASE("slow senders are timed out, others are served meanwhile") {
  Served served({}, small_limits());
  Client slow(served.port());
  Client slow_body(served.port());
  slow.send("GET /health HT");
  slow_body.send(post_head("content-length: 100\r\n") + "{\"pro");
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < 30; ++i) {  // a byte now and then does not extend the time
    std::this_thread::sleep_for(20ms);
    slow_body.send(" ");
  }
  CHECK(served.healthy());
  CHECK(slow.read().status == 408);
  CHECK(slow_body.read().status == 408);
  CHECK(std::chrono::steady_clock::now() - begin < 3s);
  Client silent(served.port());
  CHECK(silent.closed(2000));
}

TEST_CASE("keep-alive, pipelining, connection: close, expect: 100-continue, chunked bodies") {
  Served served({}, small_limits());
  Client client(served.port());
  client.send(
      "GET /health HTTP/1.1\r\n\r\nGET /version HTTP/1.1\r\n\r\nGET /health HTTP/1.1\r\nconnection: "
      "close\r\n\r\n");
  CHECK(client.read().status == 200);
  CHECK(client.read().json()["version"] == "test");
  CHECK(client.read().headers.at("connection") == "close");
  CHECK(client.closed(2000));

  Client second(served.port());
  const std::string body = "{\"prompt\":\"ab\",\"max_tokens\":2}";
  second.send(post_head("content-length: " + std::to_string(body.size()) + "\r\nexpect: 100-continue\r\n"));
  CHECK(second.read().status == 100);
  second.send(body);
  CHECK(second.read().json()["choices"][0]["text"] == "ab");
  second.send(post_head("transfer-encoding: chunked\r\n") + "5\r\n" + body.substr(0, 5) + "\r\n");
  second.send("19;ext=1\r\n" + body.substr(5) + "\r\n0\r\ntrailer: x\r\n\r\n");
  CHECK(second.read().json()["choices"][0]["text"] == "ab");
}

TEST_CASE("a body is refused before it is sent when nobody may send it") {
  serve::ServerOptions options = small_limits();
  options.api_key = "k";
  Served served({}, options);
  CHECK(raw(served.port(), post_head("content-length: 4000\r\nexpect: 100-continue\r\n")).status == 401);
}

TEST_CASE("too many connections are told so") {
  Served served({}, small_limits());
  std::vector<std::unique_ptr<Client>> crowd;
  int refused = 0;
  for (int i = 0; i < 30; ++i) crowd.push_back(std::make_unique<Client>(served.port()));
  for (auto& c : crowd) {
    c->send("GET /health HTTP/1.1\r\n\r\n");
    const Answer answer = c->read();
    if (answer.status == 503) {
      ++refused;
      CHECK(answer.headers.at("retry-after") == "1");
    }
  }
  CHECK(refused >= 10);
  CHECK(refused < 30);
  crowd.clear();
  std::this_thread::sleep_for(100ms);
  CHECK(served.healthy());
}
