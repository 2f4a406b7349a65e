// SPDX-License-Identifier: Apache-2.0
// Tokenizer files that lie: one clear error each, and never a crash, however they are mutated.
#include <chrono>
#include <cstdlib>

#include "data/packed/counter_random.h"
#include "data/tokenizer/tokenizer.h"
#include "samples.h"

using namespace llmctl;

namespace {

Json valid() {
  return trained_files({sample_text()}, 270, "qwen2").tokenizer;
}

struct Lie {
  const char* name;
  void (*tell)(Json&);
  Code code;
};

const Lie kLies[] = {
    {"no model", [](Json& j) { j.erase("model"); }, Code::input},
    {"model is a list", [](Json& j) { j["model"] = Json::array(); }, Code::input},
    {"Unigram", [](Json& j) { j["model"]["type"] = "Unigram"; }, Code::unsupported},
    {"no vocab", [](Json& j) { j["model"].erase("vocab"); }, Code::input},
    {"vocab is a list", [](Json& j) { j["model"]["vocab"] = Json::array(); }, Code::input},
    {"empty vocab",
     [](Json& j) {
       j["model"] = {{"type", "BPE"}, {"vocab", Json::object()}, {"merges", Json::array()}};
       j["added_tokens"] = Json::array();
     },
     Code::input},
    {"negative id", [](Json& j) { j["model"]["vocab"]["!"] = -1; }, Code::input},
    {"fractional id", [](Json& j) { j["model"]["vocab"]["!"] = 0.5; }, Code::input},
    {"huge id", [](Json& j) { j["model"]["vocab"]["!"] = 1ull << 40; }, Code::input},
    {"id that leaves a hole of millions", [](Json& j) { j["model"]["vocab"]["!"] = 9000000; }, Code::input},
    {"one id twice", [](Json& j) { j["model"]["vocab"]["!"] = 1; }, Code::input},
    {"text id", [](Json& j) { j["model"]["vocab"]["!"] = "0"; }, Code::input},
    {"merges is an object", [](Json& j) { j["model"]["merges"] = Json::object(); }, Code::input},
    {"merge of a stranger", [](Json& j) { j["model"]["merges"].push_back("zz z"); }, Code::input},
    {"merge whose result is a stranger", [](Json& j) { j["model"]["merges"].push_back("! !"); }, Code::input},
    {"merge of three", [](Json& j) { j["model"]["merges"].push_back("a b c"); }, Code::input},
    {"merge of one", [](Json& j) { j["model"]["merges"].push_back(Json::array({"a"})); }, Code::input},
    {"merge with an empty part",
     [](Json& j) {
       j["model"]["merges"].push_back(Json::array({"", "a"}));
     },
     Code::input},
    {"merge of numbers",
     [](Json& j) {
       j["model"]["merges"].push_back(Json::array({1, 2}));
     },
     Code::input},
    {"dropout", [](Json& j) { j["model"]["dropout"] = 0.1; }, Code::unsupported},
    {"word suffix", [](Json& j) { j["model"]["end_of_word_suffix"] = "</w>"; }, Code::unsupported},
    {"normalizer",
     [](Json& j) {
       j["normalizer"] = {{"type", "Sideways"}};
     },
     Code::unsupported},
    {"charsmap that is none",
     [](Json& j) {
       j["normalizer"] = {{"type", "Precompiled"}, {"precompiled_charsmap", "AAAA"}};
     },
     Code::input},
    {"normalizer without type", [](Json& j) { j["normalizer"] = Json::object(); }, Code::input},
    {"pre_tokenizer",
     [](Json& j) {
       j["pre_tokenizer"] = {{"type", "UnicodeScripts"}};
     },
     Code::unsupported},
    {"broken pattern", [](Json& j) { j["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "(a"; },
     Code::unsupported},
    {"class intersection",
     [](Json& j) { j["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "[a-z&&[b]]"; },
     Code::unsupported},
    {"unknown behavior", [](Json& j) { j["pre_tokenizer"]["pretokenizers"][0]["behavior"] = "Sideways"; },
     Code::input},
    {"post_processor",
     [](Json& j) {
       j["post_processor"] = {{"type", "Sideways"}};
     },
     Code::unsupported},
    {"template of an unknown id",
     [](Json& j) {
       j["post_processor"] =
           parse_json(R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}},
         {"Sequence": {"id": "A"}}], "special_tokens": {"<s>": {"id": "<s>", "ids": [99999]}}})",
                      "t");
     },
     Code::input},
    {"no decoder", [](Json& j) { j["decoder"] = nullptr; }, Code::unsupported},
    {"other decoder",
     [](Json& j) {
       j["decoder"] = {{"type", "CTC"}};
     },
     Code::unsupported},
    {"decoder of another kind",
     [](Json& j) {
       j["decoder"] = {{"type", "Fuse"}};
     },
     Code::unsupported},
    {"added token with another's id", [](Json& j) { j["added_tokens"][0]["id"] = 3; }, Code::input},
    {"added token with two ids", [](Json& j) { j["added_tokens"][1]["content"] = "!"; }, Code::input},
    {"added tokens of text", [](Json& j) { j["added_tokens"] = "no"; }, Code::input},
    {"added token without content", [](Json& j) { j["added_tokens"][0].erase("content"); }, Code::input},
    {"model", [](Json& j) { j["model"]["type"] = "Sideways"; }, Code::unsupported},
    {"WordPiece after ByteLevel", [](Json& j) { j["model"]["type"] = "WordPiece"; }, Code::unsupported},
    {"truncation",
     [](Json& j) {
       j["truncation"] = {{"max_length", 4}};
     },
     Code::unsupported},
};

// One random change somewhere in the tree.
void mutate(Json& node, CounterRandom& random, int depth) {
  if (node.is_structured() && !node.empty() && depth < 12 && random.below(8) != 0) {
    auto it = node.begin();
    std::advance(it, static_cast<ptrdiff_t>(random.below(node.size())));
    if (random.below(12) == 0) {
      if (node.is_array())
        node.erase(it);
      else
        node.erase(it.key());
      return;
    }
    return mutate(*it, random, depth + 1);
  }
  switch (random.below(9)) {
    case 0:
      node = nullptr;
      break;
    case 1:
      node = static_cast<int64_t>(random.bits());
      break;
    case 2:
      node = random.below(300);
      break;
    case 3:
      node = "x";
      break;
    case 4:
      node = Json::array();
      break;
    case 5:
      node = Json::object();
      break;
    case 6:
      node = true;
      break;
    case 7:
      node = "";
      break;
    default:
      node = 1.5;
      break;
  }
}

void use(const Tokenizer& tokenizer) {
  try {
    const auto ids = tokenizer.encode("The fox's 12 caf\xC3\xA9 \xFF<|im_end|>", {.parse_special = true});
    tokenizer.decode(ids, false);
    StreamDecoder stream(tokenizer);
    for (const int32_t id : ids) stream.push(id);
    stream.finish();
  } catch (const Error& e) {
    CHECK((e.code == Code::input || e.code == Code::unsupported));
  }
}

}  // namespace

TEST_CASE("lying tokenizer files are refused by name", "[tokenizer]") {
  REQUIRE(Tokenizer::from_json(valid(), Json()).vocab_size() == 270);
  for (const Lie& lie : kLies) {
    INFO(lie.name);
    Json json = valid();
    lie.tell(json);
    CHECK(code_of([&] { Tokenizer::from_json(json, Json()); }) == lie.code);
  }
  CHECK(code_of([&] { Tokenizer::from_json(valid(), {{"eos_token", "nobody"}}); }) == Code::input);
  CHECK(code_of([&] { Tokenizer::from_json(valid(), Json::array()); }) == Code::input);
  CHECK(code_of([&] { Tokenizer::from_json(Json(), Json()); }) == Code::input);
}

TEST_CASE("small holes and odd but honest files are read", "[tokenizer]") {
  Json json = valid();
  json["model"].erase("type");  // as old files
  json["added_tokens"][2]["id"] = 400;
  const Tokenizer tokenizer = Tokenizer::from_json(json, Json());
  CHECK(tokenizer.vocab_size() == 401);
  CHECK(tokenizer.token_of(300).empty());
  CHECK(tokenizer.piece(300).empty());
  CHECK(code_of([&] { tokenizer.decode({300}); }) == Code::input);
  CHECK(code_of([&] { tokenizer.decode({-1}); }) == Code::input);
  CHECK(code_of([&] { tokenizer.decode({401}); }) == Code::input);
  Json missing = trained_files({sample_text()}, 256, "qwen2").tokenizer;
  missing["model"]["vocab"].erase("z");
  CHECK(code_of([&] { Tokenizer::from_json(missing, Json()).encode("lazy"); }) == Code::input);
}

TEST_CASE("mutated tokenizer files never crash", "[tokenizer][fuzz]") {
  const char* wanted = std::getenv("LLMCTL_FUZZ_SECONDS");
  const auto seconds = std::chrono::duration<double>(wanted ? std::atof(wanted) : 20.0);
  const auto start = std::chrono::steady_clock::now();
  const Json config = trained_files({sample_text()}, 270, "qwen2").config;
  const Json trees[] = {valid(), trained_files({sample_text()}, 262, "gpt2").tokenizer};
  const std::string bytes = trees[1].dump();
  uint64_t rounds = 0, accepted = 0;
  while (std::chrono::steady_clock::now() - start < seconds) {
    CounterRandom random(7, rounds++);
    try {
      Json json;
      if (random.below(3) == 0) {  // the bytes themselves
        std::string text = bytes;
        for (uint64_t n = 1 + random.below(4); n > 0; --n)
          text[random.below(text.size())] = static_cast<char>(random.bits());
        if (random.below(4) == 0) text.resize(random.below(text.size()));
        json = parse_json(text, "fuzz");
      } else {
        json = trees[random.below(2)];
        for (uint64_t n = 1 + random.below(3); n > 0; --n) mutate(json, random, 0);
      }
      use(Tokenizer::from_json(json, random.below(2) ? config : Json()));
      ++accepted;
    } catch (const Error& e) {
      const bool expected = e.code == Code::input || e.code == Code::unsupported;
      if (!expected) FAIL_CHECK("round " << rounds << ": " << e.what());
    }
  }
  WARN(rounds << " mutated files, " << accepted << " of them still valid");
  CHECK(rounds > 10);
}
