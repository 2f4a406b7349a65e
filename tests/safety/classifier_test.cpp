// SPDX-License-Identifier: Apache-2.0
// Features, training, calibration and the model folder of safety/.
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "safety/elementary.h"
#include "safety/moderation.h"
#include "safety/trainer.h"
#include "tests/scratch.h"

using namespace llmctl;

namespace {

// Texts of our own whose category is told by a few words among noise; every tenth label is wrong, so
// that a perfect score is impossible and calibration has something to do.
LabelledTexts sample(size_t n) {
  const std::vector<std::string> harmless = {"the garden is quiet today", "please add two numbers for me",
                                             "a story about a small boat", "how do plants grow in spring",
                                             "tell me about the old town"};
  const std::vector<std::string> violent = {"I will hit you hard", "they want to attack the house",
                                            "he said he would hurt them all"};
  const std::vector<std::string> hateful = {"people like that are all worthless",
                                            "I despise every one of them"};
  LabelledTexts out{{"violence", "hate"}, {}};
  for (size_t i = 0; i < n; ++i) {
    const uint64_t draw = text_hash(std::to_string(i), 7);
    std::vector<std::string> text = {harmless[draw % 5], "number " + std::to_string(draw % 1009)};
    LabelledText item;
    if ((draw >> 20) % 3 == 0) text.insert(text.begin() + 1, violent[(draw >> 24) % 3]), item.labels = {0};
    if ((draw >> 20) % 3 == 1) text.insert(text.begin() + 1, hateful[(draw >> 24) % 2]), item.labels = {1};
    if ((draw >> 40) % 10 == 0) item.labels.clear();
    for (const auto& part : text) item.text += part + ". ";
    out.items.push_back(item);
  }
  return out;
}

struct Threads {
  explicit Threads(int n) : pool(n) { exec.pool = &pool; }
  kn::ThreadPool pool;
  kn::Exec exec;
};

TrainedClassifier train(size_t n = 1500, int threads = 1) {
  Threads t(threads);
  ClassifierTraining options;
  options.shape.buckets = 1 << 14;
  return train_classifier(sample(n), options, t.exec, {});
}

}  // namespace

TEST_CASE("our exp and log agree with libm", "[safety]") {
  for (double x = -700; x < 700; x += 0.37)
    REQUIRE(std::fabs(elementary::exp(x) / std::exp(x) - 1.0) < 1e-14);
  for (double x = 1e-300; x < 1e300; x *= 1.7)
    REQUIRE(std::fabs(elementary::log(x) - std::log(x)) < 1e-14 * std::fabs(std::log(x)) + 1e-16);
  REQUIRE(elementary::log(1.0) == 0.0);
  REQUIRE(elementary::exp(0.0) == 1.0);
  REQUIRE(elementary::logistic(-1000) == 0.0);
  REQUIRE(elementary::logistic(1000) == 1.0);
}

TEST_CASE("folding undoes common disguises", "[safety]") {
  using Words = std::vector<std::string>;
  REQUIRE(folded_words("I H4TE you") == Words{"i", "hate", "you"});
  REQUIRE(folded_words("h@te, k i l l!") == Words{"hate", "kill"});
  REQUIRE(folded_words("sooooo 1000 b\xE2\x80\x8B"
                       "ad") == Words{"soo", "1000", "bad"});
  REQUIRE(folded_words("don\xE2\x80\x99t caf\xC3\xA9") == Words{"don", "t", "caf\xC3\xA9"});
  REQUIRE(folded_words(" \n\t,.").empty());
  REQUIRE(folded_words(std::string(200, 'x').replace(50, 50, std::string(50, 'y'))).size() == 1);
  REQUIRE(folded_words(std::string(100, '7')).size() == 2);
}

TEST_CASE("features are sorted, unique and of bounded mass", "[safety]") {
  FeatureShape shape;
  shape.buckets = 1024;
  const auto words = folded_words("one two three two one, and many more words that collide in few buckets");
  const Features f = features_of(words, 0, words.size(), shape);
  for (size_t i = 1; i < f.size(); ++i) REQUIRE(f[i - 1].bucket < f[i].bucket);
  for (const Feature& x : f) REQUIRE((x.bucket < 1024 && x.value > 0 && x.value <= 1.0f));
  REQUIRE(features_of(words, 3, 3, shape).empty());
  // the hash is part of the model format: it must never change
  REQUIRE(text_hash("word", 1) == 0x981228962cb36aabull);
}

TEST_CASE("the same model for any number of threads", "[safety]") {
  const auto one = train(600, 1), two = train(600, 2), three = train(600, 3);
  REQUIRE(one.model.digest() == two.model.digest());
  REQUIRE(one.model.digest() == three.model.digest());
  REQUIRE(one.ece == two.ece);
}

TEST_CASE("training learns and calibrates", "[safety]") {
  const auto result = train();
  REQUIRE(result.trained + result.calibrated + result.measured == 1500);
  REQUIRE(result.measured > 80);
  REQUIRE(result.ece < 0.06);
  REQUIRE(result.mean_auroc > 0.9);
  for (const CategoryMeasures& c : result.categories) {
    REQUIRE(c.positives_trained > 100);
    REQUIRE(c.at.recall() > 0.9);
    REQUIRE(c.at.precision() > 0.75);  // one label in ten was taken away
  }
  // scores are probabilities near 0.9, not the certainty that the words alone would suggest
  const auto scores = result.model.scores("how do plants grow in spring. I will hit you hard. number 5");
  REQUIRE(scores[0] > 0.7);
  REQUIRE(scores[0] < 0.99);
  REQUIRE(scores[1] < 0.2);
}

TEST_CASE("a harmful passage in a long harmless text is seen", "[safety]") {
  const auto result = train();
  std::string text;
  for (int i = 0; i < 200; ++i) text += "the garden is quiet today. ";
  const double before = result.model.scores(text)[0];
  text.insert(text.size() / 2, "I will hit you hard. they want to attack the house. ");
  REQUIRE(before < 0.3);
  REQUIRE(result.model.scores(text)[0] > before);
  REQUIRE_THROWS_AS(result.model.scores("\xFF"), Error);
}

TEST_CASE("measures on cases worked by hand", "[safety]") {
  REQUIRE(auroc({0.9, 0.8, 0.3, 0.1}, {1, 1, 0, 0}) == 1.0);
  REQUIRE(auroc({0.1, 0.9}, {1, 0}) == 0.0);
  REQUIRE(auroc({0.5, 0.5, 0.5}, {1, 0, 0}) == 0.5);
  REQUIRE(auroc({0.9, 0.5, 0.5, 0.1}, {1, 1, 0, 0}) == 0.875);
  REQUIRE(auroc({0.5}, {1}) == -1.0);
  REQUIRE(calibration_error({1.0, 0.0}, {1, 0}) == 0.0);
  REQUIRE(calibration_error({0.5, 0.5}, {1, 1}) == 0.5);
  REQUIRE(calibration_error({}, {}) == 0.0);
  const std::vector<double> score = {0.9, 0.8, 0.7, 0.2};
  const std::vector<char> truth = {1, 0, 1, 0};
  REQUIRE(best_threshold(score, truth, 0) == Approx(0.45));    // both, one false: F1 0.8
  REQUIRE(best_threshold(score, truth, 0.9) == Approx(0.85));  // only the first is that precise
  REQUIRE(best_threshold({0.5}, {0}, 0) == 0.5);
  REQUIRE(at_threshold(score, truth, 0.45).f1() == Approx(0.8));
}

TEST_CASE("Platt scaling finds the slope that made the labels", "[safety]") {
  std::vector<double> margin;
  std::vector<char> truth;
  for (int i = 0; i < 20000; ++i) {
    const uint64_t draw = text_hash(std::to_string(i), 3);
    const double z = static_cast<double>(draw % 1000) / 100.0 - 5.0;
    const double coin = static_cast<double>((draw >> 20) % 100000) / 100000.0;
    margin.push_back(z);
    truth.push_back(coin < elementary::logistic(0.5 * z - 1.0) ? 1 : 0);
  }
  const Calibration c = calibrate(margin, truth);
  REQUIRE(c.slope == Approx(0.5).margin(0.03));
  REQUIRE(c.offset == Approx(-1.0).margin(0.06));
  REQUIRE(calibrate({1, 2}, {1, 0}).slope == 1.0);
}

TEST_CASE("options and parts out of range are refused", "[safety]") {
  Threads t(1);
  ClassifierTraining o;
  o.shape.buckets = 1 << 10;
  const auto data = sample(200);
  const auto code = [&](const ClassifierTraining& options, const LabelledTexts& texts) {
    return error_code([&] { train_classifier(texts, options, t.exec, {}); });
  };
  auto bad = o;
  bad.shape.buckets = 1000;
  REQUIRE(code(bad, data) == Code::input);
  bad = o, bad.epochs = 0;
  REQUIRE(code(bad, data) == Code::input);
  bad = o, bad.learning_rate = std::numeric_limits<double>::quiet_NaN();
  REQUIRE(code(bad, data) == Code::input);
  bad = o, bad.held_out = 0;
  REQUIRE(code(bad, data) == Code::input);
  REQUIRE(code(o, sample(1)) == Code::input);
  REQUIRE(error_code([&] { train_classifier(data, o, t.exec, [] { return true; }); }) == Code::interrupted);
}

TEST_CASE("OpenAI's object has all 13 categories and the model's own", "[safety]") {
  auto model = train(600).model;
  model.categories[1] = "spam";
  const Json object = moderation_object(model, "guard", "I will hit you hard");
  REQUIRE(object["model"] == "guard");
  REQUIRE(object["id"].get<std::string>().substr(0, 5) == "modr-");
  REQUIRE(object["results"].size() == 1);
  const Json& result = object["results"][0];
  REQUIRE(result["flagged"] == true);
  for (const char* part : {"categories", "category_scores", "category_applied_input_types"}) {
    REQUIRE(result[part].size() == 14);
    for (const std::string& name : openai_categories()) REQUIRE(result[part].contains(name));
    REQUIRE(result[part].contains("spam"));
  }
  REQUIRE(result["categories"]["violence"] == true);
  REQUIRE(result["category_scores"]["sexual/minors"] == 0.0);
  REQUIRE(result["category_applied_input_types"]["violence"] == Json::array({"text"}));
  REQUIRE(result["category_applied_input_types"]["sexual"] == Json::array());
  REQUIRE(object == moderation_object(model, "guard", "I will hit you hard"));
}
