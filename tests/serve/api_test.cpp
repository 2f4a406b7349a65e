// SPDX-License-Identifier: Apache-2.0
// Every route over a real socket, against the shapes that OpenAI's clients read.
#include <algorithm>
#include <catch2/catch.hpp>

#include "tests/serve/fixture.h"

using namespace llmctl;
using namespace llmctl::test;

TEST_CASE("models, version, health, metrics") {
  Served served;
  Client client(served.port());
  const Answer list = client.get("/v1/models");
  CHECK(list.status == 200);
  CHECK(list.headers.at("content-type") == "application/json");
  CHECK(list.headers.count("x-request-id") == 1);
  CHECK(list.json()["data"][0]["id"] == "org/tiny:1");
  CHECK(list.json()["data"][0]["object"] == "model");
  CHECK(client.get("/v1/models/org%2Ftiny%3A1").json()["id"] == "org/tiny:1");
  CHECK(client.get("/v1/models/org/tiny:1").status == 200);
  CHECK(client.get("/v1/models/other").json()["error"]["code"] == "model_not_found");
  CHECK(client.get("/v1/models/%zz").status == 400);
  CHECK(client.get("/version").json()["version"] == "test");
  CHECK(client.get("/health").json()["status"] == "ok");
  CHECK(client.request("HEAD", "/health").status == 200);
  CHECK(client.request("GET", "/health", {}, "x-request-id: mine-7\r\n").headers.at("x-request-id") ==
        "mine-7");
  client.post("/v1/chat/completions", chat_body("hi"));
  const std::string metrics = client.get("/metrics").body;
  CHECK(metrics.find("llmctl_http_requests_total{route=\"/v1/models\",status=\"200\"} 1\n") !=
        std::string::npos);
  CHECK(metrics.find("llmctl_generated_tokens_total 8\n") != std::string::npos);
  CHECK(metrics.find("llmctl_time_to_first_token_seconds_count 1\n") != std::string::npos);
  CHECK(metrics.find("llmctl_inter_token_latency_seconds_count 7\n") != std::string::npos);
  CHECK(metrics.find("llmctl_kv_pages_total{model=\"org/tiny:1\"} 0\n") != std::string::npos);
}

TEST_CASE("chat completion") {
  Served served;
  Client client(served.port());
  Json body = chat_body("hi", 12);
  body["return_token_ids"] = true;
  body["ignore_eos"] = true;
  body["unknown_field"] = {1, 2};
  body["temperature"] = nullptr;
  body["tools"] = Json::array();
  const Answer answer = client.post("/v1/chat/completions", body);
  REQUIRE(answer.status == 200);
  const Json reply = answer.json();
  CHECK(reply["object"] == "chat.completion");
  CHECK(reply["system_fingerprint"] == "fp_test");
  const Json& choice = reply["choices"][0];
  CHECK(choice["message"]["role"] == "assistant");
  CHECK(choice["message"]["content"] == "user\nhi\na");
  CHECK(choice["finish_reason"] == "length");
  CHECK(choice["token_ids"].size() == 12);
  const std::string prompt = "user\nhi";
  REQUIRE(choice["prompt_token_ids"].size() == 1 + prompt.size() + 2 + 1 + 10);
  CHECK(choice["prompt_token_ids"][0] == kImStart);
  CHECK(reply["usage"]["total_tokens"] == choice["prompt_token_ids"].size() + 12);
}

TEST_CASE("a chat turn ends at its end token, which is not shown") {
  Served served;
  Client client(served.port());
  Json body = chat_body("hey", 100);
  body["logprobs"] = true;
  body["top_logprobs"] = 2;
  const Json reply = client.post("/v1/chat/completions", body).json();
  const Json& choice = reply["choices"][0];
  CHECK(choice["finish_reason"] == "stop");
  CHECK(choice["message"]["content"] == "user\nhey");
  const Json& entry = choice["logprobs"]["content"][1];
  CHECK(choice["logprobs"]["content"].size() == 9);
  CHECK(entry["token"] == "u");
  CHECK(entry["bytes"] == Json::array({117}));
  CHECK(entry["top_logprobs"].size() == 2);
  CHECK(entry["logprob"] == -0.5);
}

TEST_CASE("chat roles and content parts; text never becomes a special token") {
  Served served;
  Client client(served.port());
  Json body = chat_body("x", 1);
  body["return_token_ids"] = true;
  body["messages"] = Json::array(
      {{{"role", "developer"}, {"content", "be <|im_end|>"}},
       {{"role", "user"},
        {"content", Json::array({{{"type", "text"}, {"text", "a"}}, {{"type", "text"}, {"text", "b"}}})}}});
  const Json ids = client.post("/v1/chat/completions", body).json()["choices"][0]["prompt_token_ids"];
  CHECK(std::count(ids.begin(), ids.end(), Json(kImEnd)) == 2);
}

TEST_CASE("completions: prompts in four forms, n, echo, logprobs") {
  Served served;
  Client client(served.port());
  const auto ask = [&](Json prompt, Json more = Json::object()) {
    Json body = {{"model", "org/tiny:1"}, {"prompt", prompt}, {"max_tokens", 3}};
    body.update(more);
    return client.post("/v1/completions", body).json();
  };
  CHECK(ask("abcd")["choices"][0]["text"] == "abc");
  CHECK(ask(Json::array({"abc", "xy"}))["choices"][1]["text"] == "xyx");
  CHECK(ask(Json::array({104, 105}))["choices"][0]["text"] == "hih");
  CHECK(ask(Json::array({Json::array({65}), Json::array({66})}))["choices"][1]["text"] == "BBB");
  const Json several = ask(Json::array({"ab", "cd"}), {{"n", 2}});
  REQUIRE(several["choices"].size() == 4);
  CHECK(several["choices"][3]["index"] == 3);
  CHECK(several["choices"][3]["text"] == "cdc");
  CHECK(several["usage"]["prompt_tokens"] == 4);
  CHECK(several["usage"]["completion_tokens"] == 12);
  CHECK(ask("ab", {{"echo", true}})["choices"][0]["text"] == "ababa");
  CHECK(ask("ab", {{"echo", true}, {"max_tokens", 0}})["choices"][0]["text"] == "ab");
  CHECK(ask("", {{"max_tokens", 1}, {"return_token_ids", true}})["choices"][0]["prompt_token_ids"][0] ==
        kImEnd);

  const Json scored = ask("ab", {{"echo", true}, {"logprobs", 2}, {"max_tokens", 1}})["choices"][0];
  const Json& logprobs = scored["logprobs"];
  CHECK(scored["text"] == "aba");
  CHECK(logprobs["tokens"] == Json::array({"a", "b", "a"}));
  CHECK(logprobs["token_logprobs"] == Json::array({nullptr, -0.5, -0.5}));
  CHECK(logprobs["top_logprobs"][0].is_null());
  CHECK(logprobs["top_logprobs"][1]["b"] == -0.5);
  CHECK(logprobs["text_offset"] == Json::array({0, 1, 2}));
  const Json only = ask("ab", {{"echo", true}, {"logprobs", 0}, {"max_tokens", 0}})["choices"][0];
  CHECK(only["text"] == "ab");
  CHECK(only["logprobs"]["tokens"].size() == 2);
  CHECK(only["finish_reason"] == "length");
}

TEST_CASE("stop strings end a completion and its work") {
  Served served;
  Client client(served.port());
  const Json body = {{"prompt", "alpha beta "}, {"max_tokens", 2000}, {"stop", Json::array({"ta al", "zz"})}};
  const Json reply = client.post("/v1/completions", body).json();
  CHECK(reply["choices"][0]["text"] == "alpha be");
  CHECK(reply["choices"][0]["finish_reason"] == "stop");
}

TEST_CASE("moderations") {
  Served served;
  Client client(served.port());
  const Json one = client.post("/v1/moderations", {{"input", "they attack"}}).json();
  CHECK(one["model"] == "word-guard");
  CHECK(one["results"][0]["flagged"] == true);
  CHECK(one["results"][0]["categories"]["violence"] == true);
  CHECK(one["results"][0]["category_scores"]["violence"] == 0.97);
  CHECK(one["results"][0]["category_applied_input_types"]["violence"] == Json::array({"text"}));
  CHECK(one["results"][0]["category_applied_input_types"]["sexual"].empty());
  CHECK(one["results"][0]["categories"].size() == 13);
  CHECK(client.post("/v1/moderations", {{"input", Json::array({"a", "b", "c"})}}).json()["results"].size() ==
        3);
  const Json parts = Json::array({{{"type", "text"}, {"text", "attack"}}});
  CHECK(client.post("/v1/moderations", {{"input", parts}}).json()["results"][0]["flagged"] == true);
  CHECK(client.post("/v1/moderations", Json::object()).json()["error"]["param"] == "input");
  Served bare({}, {}, false);
  const Answer missing = Client(bare.port()).post("/v1/moderations", {{"input", "x"}});
  CHECK(missing.status == 501);
  CHECK(missing.json()["error"]["message"].get<std::string>().find("--moderation") != std::string::npos);
}

TEST_CASE("tokenize and detokenize") {
  Served served;
  Client client(served.port());
  const Json ids = client.post("/tokenize", {{"prompt", "h\xC3\xA9<|im_end|>"}}).json();
  CHECK(ids["tokens"] == Json::array({104, 0xC3, 0xA9, kImEnd}));
  CHECK(ids["count"] == 4);
  CHECK(client.post("/detokenize", {{"tokens", ids["tokens"]}}).json()["prompt"] == "h\xC3\xA9<|im_end|>");
  CHECK(client.post("/detokenize", {{"tokens", Json::array({-1})}}).json()["error"]["param"] == "tokens");
  CHECK(client.post("/tokenize", {{"messages", chat_body("x")["messages"]}}).json()["tokens"][0] == kImStart);
}

TEST_CASE("known fields of the wrong type or range are refused by name") {
  Served served;
  Client client(served.port());
  struct Bad {
    const char *field, *value;
  };
  const Bad bad[] = {{"temperature", "-1"},
                     {"temperature", "\"hot\""},
                     {"top_p", "5"},
                     {"n", "0"},
                     {"n", "1.5"},
                     {"n", "99999999999999999999"},
                     {"max_tokens", "-1"},
                     {"max_tokens", "1e30"},
                     {"messages", "[]"},
                     {"messages", "{}"},
                     {"messages", "[{\"role\":\"wizard\",\"content\":\"x\"}]"},
                     {"messages", "[7]"},
                     {"messages", "[{\"role\":\"user\"}]"},
                     {"stop", "7"},
                     {"stop", "[1]"},
                     {"seed", "\"a\""},
                     {"stream", "\"yes\""},
                     {"logit_bias", "[]"},
                     {"logit_bias", "{\"foo\":0}"},
                     {"logit_bias", "{\"5\":101}"},
                     {"logit_bias", "{\"259\":1}"},
                     {"presence_penalty", "3"},
                     {"frequency_penalty", "-3"},
                     {"top_logprobs", "30"},
                     {"top_logprobs", "2"},
                     {"stream_options", "{}"},
                     {"top_k", "-2"},
                     {"min_p", "2"},
                     {"repetition_penalty", "0"},
                     {"min_tokens", "100"},
                     {"model", "5"},
                     {"stop_token_ids", "[300]"},
                     {"return_token_ids", "1"},
                     {"user", "[]"}};
  for (const Bad& b : bad) {
    Json body = chat_body("x");
    body[b.field] = Json::parse(b.value);
    const Answer answer = client.post("/v1/chat/completions", body);
    INFO(b.field << " = " << b.value << ": " << answer.body);
    REQUIRE(answer.status == 400);
    const Json error = answer.json()["error"];
    CHECK(error["param"] == b.field);
    CHECK(error["type"] == "invalid_request_error");
    CHECK(error.size() == 4);
  }
  for (const char* prompt :
       {"[]", "7", "[[]]", "[1,\"a\"]", "[\"a\",[1]]", "[300]", "[-1]", "[1.5]", "{}", "null"}) {
    const Answer answer =
        client.post("/v1/completions", {{"model", "org/tiny:1"}, {"prompt", Json::parse(prompt)}});
    INFO(prompt << ": " << answer.body);
    CHECK(answer.status == 400);
    CHECK(answer.json()["error"]["param"] == "prompt");
  }
}

TEST_CASE("what is not offered is refused, its off spelling accepted") {
  Served served;
  Client client(served.port());
  const Json on = {{"tools", Json::array({{{"type", "function"}}})},
                   {"tool_choice", "required"},
                   {"functions", Json::array({{{"name", "f"}}})},
                   {"response_format", {{"type", "json_object"}}},
                   {"modalities", Json::array({"text", "audio"})},
                   {"prediction", {{"type", "content"}}},
                   {"store", true},
                   {"guided_json", Json::object()}};
  for (const auto& [field, value] : on.items()) {
    Json body = chat_body("x");
    body[field] = value;
    const Json error = client.post("/v1/chat/completions", body).json()["error"];
    INFO(field);
    CHECK(error["param"] == field);
    CHECK(error["code"] == "unsupported");
  }
  Json body = chat_body("x");
  body.update({{"tools", Json::array()},
               {"tool_choice", "none"},
               {"response_format", {{"type", "text"}}},
               {"modalities", Json::array({"text"})},
               {"store", false},
               {"user", "me"},
               {"metadata", {{"a", "b"}}},
               {"service_tier", "auto"},
               {"parallel_tool_calls", true},
               {"max_tokens", 0}});
  const Answer answer = client.post("/v1/chat/completions", body);
  CHECK(answer.status == 200);
  CHECK(answer.json()["choices"][0]["finish_reason"] == "length");
}

TEST_CASE("lengths are checked against the context, models by name") {
  Served served({.context = 32});
  Client client(served.port());
  const Json long_one = client.post("/v1/completions", {{"prompt", std::string(40, 'x')}}).json()["error"];
  CHECK(long_one["code"] == "context_length_exceeded");
  CHECK(client.post("/v1/completions", {{"prompt", "xx"}, {"max_tokens", 31}}).status == 400);
  CHECK(client.post("/v1/completions", {{"prompt", "xx"}, {"max_tokens", 30}}).status == 200);
  CHECK(client.post("/v1/completions", {{"prompt", "xx"}, {"model", "gpt-4"}}).status == 404);
}

TEST_CASE("one rule of authorisation") {
  serve::ServerOptions options;
  options.api_key = "secret";
  Served served({}, options);
  Client client(served.port());
  for (const char* path : {"/v1/models", "/v1/models/x", "/nowhere"}) {
    const Answer answer = Client(served.port()).get(path);
    CHECK(answer.status == 401);
    CHECK(answer.json()["error"]["code"] == "invalid_api_key");
  }
  CHECK(Client(served.port()).post("/v1/chat/completions", chat_body("x")).status == 401);
  CHECK(Client(served.port()).post("/tokenize", {{"prompt", "x"}}).status == 401);
  CHECK(client.request("GET", "/v1/models", {}, "authorization: Bearer wrong\r\n").status == 401);
  CHECK(client.request("GET", "/v1/models", {}, "authorization: bearer secret\r\n").status == 200);
  CHECK(client.get("/health").status == 200);
  const Answer preflight = client.request("OPTIONS", "/v1/chat/completions");
  CHECK(preflight.status == 204);
  CHECK(preflight.headers.at("access-control-allow-methods") == "POST, OPTIONS");
}

TEST_CASE("an engine failure is a 500 of that request alone") {
  Served served({.fail_on = '!'});
  Client client(served.port());
  const Answer answer = client.post("/v1/completions", {{"prompt", "ab!"}});
  CHECK(answer.status == 500);
  CHECK(answer.json()["error"]["type"] == "server_error");
  const Answer stream = client.post("/v1/completions", {{"prompt", "ab!"}, {"stream", true}});
  const Events events = events_of(stream.body);
  CHECK(events.done);
  CHECK(events.json.back().contains("error"));
  CHECK(served.healthy());
}
