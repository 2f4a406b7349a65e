// SPDX-License-Identifier: Apache-2.0
// Files of safety/: labelled texts and model folders, good and bad.
#include <catch2/catch.hpp>
#include <cstdlib>

#include "core/base/json.h"
#include "safety/trainer.h"
#include "tests/scratch.h"

using namespace llmctl;

namespace {

LabelledSource jsonl(const std::string& path) {
  LabelledSource source;
  source.inputs = {path};
  return source;
}

TextClassifier small_model() {
  TextClassifier model;
  model.shape.buckets = 1024;
  model.categories = {"violence", "hate"};
  for (int i = 0; i < 2048; ++i) model.weight.push_back(static_cast<float>(i % 17) - 8.0f);
  model.bias = {0.25f, -1.5f};
  model.calibration = {{0.7, -0.3, 0.41}, {1.0 / 3.0, 0.1, 0.5}};
  return model;
}

}  // namespace

TEST_CASE("labelled JSONL is read", "[safety]") {
  ScratchFolder f;
  const auto path = f.put("a.jsonl",
                          "{\"text\": \"fine\", \"categories\": []}\n\n"
                          "{\"text\": \"bad\", \"categories\": [\"violence\", \"hate\", \"violence\"]}\n");
  const auto data = read_labelled(jsonl(path));
  REQUIRE(data.categories == std::vector<std::string>{"hate", "violence"});
  REQUIRE(data.items.size() == 2);
  REQUIRE(data.items[0].labels.empty());
  REQUIRE(data.items[1].labels == std::vector<int>{0, 1});
  auto source = jsonl(path);
  source.categories = {"violence", "hate", "spam"};
  REQUIRE(read_labelled(source).categories.size() == 3);
}

TEST_CASE("malformed labelled files give one line and code 3", "[safety]") {
  ScratchFolder f;
  const std::vector<std::string> bad = {"",
                                        "\n\n",
                                        "not json\n",
                                        "[1]\n",
                                        "{\"text\": 5, \"categories\": []}\n",
                                        "{\"text\": \"a\"}\n",
                                        "{\"text\": \"a\", \"categories\": \"hate\"}\n",
                                        "{\"text\": \"a\", \"categories\": [3]}\n",
                                        "{\"text\": \"a\", \"categories\": [\"rudeness\"]}\n",
                                        "{\"text\": \"a\xFF\", \"categories\": []}\n",
                                        "{\"text\": \"all safe\", \"categories\": []}\n"};
  for (const std::string& bytes : bad) {
    const auto path = f.put("bad.jsonl", bytes);
    INFO(bytes);
    try {
      read_labelled(jsonl(path));
      FAIL("accepted");
    } catch (const Error& e) {
      REQUIRE(e.code == Code::input);
      REQUIRE(std::string(e.what()).find('\n') == std::string::npos);
    }
  }
  REQUIRE(error_code([&] { read_labelled(jsonl((f.path / "absent.jsonl").string())); }) == Code::input);
}

TEST_CASE("Davidson's CSV is read with quotes and newlines", "[safety]") {
  ScratchFolder f;
  auto source = jsonl(f.put("d.csv",
                            ",count,hate_speech,offensive_language,neither,class,tweet\r\n"
                            "0,3,0,0,3,2,plain text\r\n"
                            "1,3,3,0,0,0,\"with, comma and \"\"quotes\"\"\nand a second line\"\n"
                            "2,3,0,3,0,1,last"));
  source.format = "davidson";
  const auto data = read_labelled(source);
  REQUIRE(data.categories == std::vector<std::string>{"hate", "offensive"});
  REQUIRE(data.items.size() == 3);
  REQUIRE(data.items[1].text == "with, comma and \"quotes\"\nand a second line");
  REQUIRE(data.items[1].labels == std::vector<int>{0});
  REQUIRE(data.items[2].text == "last");
  for (const char* bytes : {"", "a,b\n1,2\n", "class,tweet\n7,text\n", "class,tweet\n0,text,more\n"}) {
    source.inputs = {f.put("bad.csv", bytes)};
    REQUIRE(error_code([&] { read_labelled(source); }) == Code::input);
  }
  source.format = "xml";
  REQUIRE(error_code([&] { read_labelled(source); }) == Code::input);
}

TEST_CASE("a model folder comes back bit for bit", "[safety]") {
  ScratchFolder f;
  const auto model = small_model();
  save_classifier(model, {}, f.path / "m", false);
  const auto again = load_classifier(f.path / "m");
  REQUIRE(again.digest() == model.digest());
  REQUIRE(again.weight == model.weight);
  REQUIRE(again.scores("some text of ours") == model.scores("some text of ours"));
  REQUIRE(error_code([&] { save_classifier(model, {}, f.path / "m", false); }) == Code::usage);
  save_classifier(model, {}, f.path / "m", true);
}

TEST_CASE("malformed model folders are refused", "[safety]") {
  ScratchFolder f;
  save_classifier(small_model(), {}, f.path / "m", false);
  const auto load = [&] { return error_code([&] { load_classifier(f.path / "m"); }); };
  const std::string weights = f.get("m/model.safetensors"), config = f.get("m/config.json");
  for (size_t size : {size_t{0}, size_t{4}, size_t{40}, weights.size() / 2, weights.size() - 1}) {
    f.put("m/model.safetensors", weights.substr(0, size));
    REQUIRE(load() == Code::input);
  }
  std::string nan = weights;
  nan.replace(nan.size() - 4, 4, "\xFF\xFF\xFF\x7F");
  f.put("m/model.safetensors", nan);
  REQUIRE(load() == Code::input);
  f.put("m/model.safetensors", weights);
  REQUIRE_FALSE(load());

  const auto with = [&](const char* key, const Json& value) {
    Json changed = Json::parse(config);
    if (value.is_null())
      changed.erase(key);
    else
      changed[key] = value;
    f.put("m/config.json", changed.dump());
    return load();
  };
  REQUIRE(with("buckets", 2048) == Code::input);
  REQUIRE(with("buckets", 1000) == Code::input);
  REQUIRE(with("buckets", -1) == Code::input);
  REQUIRE(with("buckets", "many") == Code::input);
  REQUIRE(with("char_max", int64_t{1} << 40) == Code::input);
  REQUIRE(with("categories", Json::array()) == Code::input);
  REQUIRE(with("categories", Json::array({"a", "a"})) == Code::input);
  REQUIRE(with("categories", Json::array({"a", 5})) == Code::input);
  REQUIRE(with("calibration", Json::array({1, 2})) == Code::input);
  REQUIRE(with("calibration", nullptr) == Code::input);
  REQUIRE(with("model_type", "llama") == Code::unsupported);
  REQUIRE(with("fold_version", 9) == Code::unsupported);
  f.put("m/config.json", "{");
  REQUIRE(load() == Code::input);
  fs::remove(f.path / "m/config.json");
  REQUIRE(load() == Code::input);
  REQUIRE(error_code([&] { load_classifier(f.path / "absent"); }) == Code::input);
}

TEST_CASE("Davidson's tweets: ranking and calibration of a real set", "[safety]") {
  const char* const set = std::getenv("LLMCTL_SHARED");
  const fs::path csv = fs::path(set ? set : "../shared") / "data/safety/davidson_labeled_data.csv";
  if (!fs::exists(csv)) {
    WARN("skipped: no " << csv.string() << " (set LLMCTL_SHARED)");
    return;
  }
  LabelledSource source;
  source.inputs = {csv.string()};
  source.format = "davidson";
  kn::ThreadPool pool(2);
  kn::Exec exec;
  exec.pool = &pool;
  const auto result = train_classifier(read_labelled(source), {}, exec, {});
  REQUIRE(result.categories[0].auroc > 0.82);
  REQUIRE(result.categories[1].auroc > 0.90);
  REQUIRE(result.ece < 0.03);
}
