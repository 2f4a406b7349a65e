// SPDX-License-Identifier: Apache-2.0
#include "data/quality/classifier.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstring>

#include "core/base/digest.h"
#include "core/base/each_index.h"
#include "core/base/json.h"
#include "core/io/safetensors.h"
#include "data/quality/portable_math.h"
#include "data/quality/words.h"
#include "data/text/char_class.h"

namespace llmctl {
namespace {

constexpr uint64_t kWordSeed = 0x243F6A8885A308D3ull, kCharSeed = 0x13198A2E03707344ull;
constexpr size_t kLongestWord = 256;  // bytes that give character n-grams

void check_options(const ClassifierOptions& o) {
  const bool good = o.buckets_log2 >= 10 && o.buckets_log2 <= 26 && o.word_ngrams >= 1 &&
                    o.word_ngrams <= 5 && o.max_chars >= 0 && o.max_chars <= 8 &&
                    (o.max_chars == 0 || (o.min_chars >= 1 && o.min_chars <= o.max_chars)) && o.epochs >= 1 &&
                    o.batch >= 1 && o.learning_rate > 0 && o.max_features >= 100;
  check(good, Code::input,
        "[classifier] an option out of range: buckets_log2 10 to 26, word_ngrams 1 to 5, chars 1 to 8 or max "
        "0, epochs, batch and "
        "learning_rate above 0, max_features from 100");
}

// Hashed n-grams of a text, in its order. Allocates nothing when `out` has room for max_features.
class Features {
 public:
  Features(const ClassifierOptions& o, std::vector<uint32_t>& out)
      : o_(o),
        mask_((uint32_t{1} << o.buckets_log2) - 1),
        most_(static_cast<size_t>(o.max_features)),
        out_(out) {}

  void of(std::string_view text) {
    out_.clear();
    word_[0] = '<';
    for (const char c : text) {
      const auto b = static_cast<uint8_t>(c);
      if (b < 0x80 && (kAsciiClass[b] & kSpace) != 0) {
        end_word();
        if (out_.size() >= most_) return;
        continue;
      }
      const char lower = b >= 'A' && b <= 'Z' ? static_cast<char>(b | 0x20) : c;
      hash_ = (hash_ + static_cast<uint8_t>(lower) + 1) * kHashBase;
      if (length_ + 2 < kLongestWord) word_[++length_] = lower;
      open_ = true;
    }
    end_word();
  }

 private:
  void put(uint64_t key) {
    if (out_.size() < most_) out_.push_back(static_cast<uint32_t>(mix_hash(key)) & mask_);
  }
  void end_word() {
    if (!open_) return;
    // The n-grams that end with this word.
    std::rotate(before_.rbegin(), before_.rbegin() + 1, before_.rend());
    before_[0] = mix_hash(hash_ + kWordSeed);
    ++words_;
    uint64_t key = 0;
    for (int n = 0; n < o_.word_ngrams && n < words_; ++n)
      put(key = (key + before_[static_cast<size_t>(n)]) * kHashBase);
    word_[length_ + 1] = '>';
    const std::string_view marked(word_.data(), length_ + 2);
    for (size_t at = 0; o_.max_chars > 0 && at < marked.size(); ++at) {
      uint64_t gram = kCharSeed;
      for (size_t n = 1; n <= static_cast<size_t>(o_.max_chars) && at + n <= marked.size(); ++n) {
        gram = (gram + static_cast<uint8_t>(marked[at + n - 1]) + 1) * kHashBase;
        if (n >= static_cast<size_t>(o_.min_chars) && n < marked.size()) put(gram);
      }
    }
    length_ = 0;
    hash_ = 0;
    open_ = false;
  }

  const ClassifierOptions& o_;
  uint32_t mask_;
  size_t most_;
  std::vector<uint32_t>& out_;
  std::array<char, kLongestWord> word_{};
  std::array<uint64_t, 5> before_{};  // hashes of the last words, newest first
  size_t length_ = 0;
  uint64_t hash_ = 0;
  int words_ = 0;
  bool open_ = false;
};

double probability(const std::vector<uint32_t>& features, const std::vector<float>& weights, double bias) {
  double sum = 0;
  for (const uint32_t f : features) sum += weights[f];
  const double z = bias + (features.empty() ? 0 : sum / static_cast<double>(features.size()));
  return 1 / (1 + portable_exp(-z));
}

// Documents in the order of a keyed hash of their index: a function of (seed, epoch).
std::vector<uint32_t> order_of(size_t documents, uint64_t seed, int epoch) {
  std::vector<std::pair<uint64_t, uint32_t>> keyed(documents);
  const uint64_t key = mix_hash(seed * kHashBase + static_cast<uint64_t>(epoch) + 1);
  for (size_t i = 0; i < documents; ++i) keyed[i] = {mix_hash(key + i), static_cast<uint32_t>(i)};
  std::sort(keyed.begin(), keyed.end());
  std::vector<uint32_t> order(documents);
  for (size_t i = 0; i < documents; ++i) order[i] = keyed[i].second;
  return order;
}

// AdaGrad over a batch: gradients are added up in the documents' order, each weight moves once.
struct Descent {
  Descent(const ClassifierOptions& o, std::vector<float>& w)
      : rate(o.learning_rate), weights(w), squares(w.size()), gradient(w.size()), touched_flag(w.size()) {}
  double rate, bias = 0, bias_square = 0, bias_gradient = 0;
  std::vector<float>& weights;
  std::vector<float> squares;
  std::vector<double> gradient;
  std::vector<uint8_t> touched_flag;
  std::vector<uint32_t> touched;

  void add(const std::vector<uint32_t>& features, double error) {
    bias_gradient += error;
    if (features.empty()) return;
    const double each = error / static_cast<double>(features.size());
    for (const uint32_t f : features) {
      if (touched_flag[f] == 0) {
        touched_flag[f] = 1;
        touched.push_back(f);
      }
      gradient[f] += each;
    }
  }
  void move() {
    for (const uint32_t f : touched) {
      const double g = gradient[f];
      squares[f] = static_cast<float>(squares[f] + g * g);
      weights[f] =
          static_cast<float>(weights[f] - rate * g / (std::sqrt(static_cast<double>(squares[f])) + 1e-12));
      gradient[f] = 0;
      touched_flag[f] = 0;
    }
    touched.clear();
    bias_square += bias_gradient * bias_gradient;
    if (bias_square > 0) bias -= rate * bias_gradient / std::sqrt(bias_square);
    bias_gradient = 0;
  }
};

std::string text_of_double(double value) {
  char buffer[64];
  return {buffer, std::to_chars(buffer, buffer + sizeof buffer, value).ptr};
}

Json json_of(const ClassifierOptions& o, double bias) {
  return {{"buckets_log2", o.buckets_log2},
          {"word_ngrams", o.word_ngrams},
          {"min_chars", o.min_chars},
          {"max_chars", o.max_chars},
          {"epochs", o.epochs},
          {"batch", o.batch},
          {"learning_rate", o.learning_rate},
          {"seed", o.seed},
          {"max_features", o.max_features},
          {"bias", text_of_double(bias)}};
}

}  // namespace

Classifier Classifier::train(std::span<const LabelledText> documents, const ClassifierOptions& options,
                             const kn::Exec& exec) {
  check_options(options);
  const auto good = static_cast<size_t>(
      std::count_if(documents.begin(), documents.end(), [](const LabelledText& d) { return d.good; }));
  check(good > 0 && good < documents.size(), Code::input, "[classifier] ", good, " good documents of ",
        documents.size(), ": both classes are needed");
  Classifier c;
  c.options_ = options;
  c.weights_.assign(size_t{1} << options.buckets_log2, 0.f);
  Descent descent(options, c.weights_);
  const auto batch = static_cast<size_t>(options.batch);
  std::vector<std::vector<uint32_t>> features(batch);
  for (auto& f : features) f.reserve(static_cast<size_t>(options.max_features));
  std::vector<double> errors(batch);
  for (int epoch = 0; epoch < options.epochs; ++epoch) {
    const std::vector<uint32_t> order = order_of(documents.size(), options.seed, epoch);
    for (size_t begin = 0; begin < order.size(); begin += batch) {
      const size_t n = std::min(batch, order.size() - begin);
      for_each_index(exec, static_cast<int64_t>(n), [&](int64_t i) {
        const auto k = static_cast<size_t>(i);
        const LabelledText& d = documents[order[begin + k]];
        Features(options, features[k]).of(d.text);
        errors[k] = probability(features[k], c.weights_, descent.bias) - (d.good ? 1 : 0);
      });
      for (size_t k = 0; k < n; ++k) descent.add(features[k], errors[k]);
      descent.move();
    }
  }
  c.bias_ = descent.bias;
  return c;
}

double Classifier::score(std::string_view text) const {
  std::vector<uint32_t> features;
  features.reserve(std::min(text.size() * 5 + 16, static_cast<size_t>(options_.max_features)));
  Features(options_, features).of(text);
  return probability(features, weights_, bias_);
}

std::string Classifier::digest() const {
  Digest d = digest_of(weights_.data(), weights_.size() * sizeof(float));
  d += digest_of(json_text(json_of(options_, bias_)));
  return d.hex();
}

void Classifier::save(const fs::path& file, bool overwrite) const {
  const NamedView weights{"weights", View(const_cast<float*>(weights_.data()), DType::f32,
                                          {static_cast<int64_t>(weights_.size())})};
  save_safetensors(file, {weights},
                   {{"format", "llmctl-quality-classifier-1"},
                    {"options", json_text(json_of(options_, bias_))},
                    {"digest", digest()}},
                   overwrite);
}

Classifier Classifier::load(const fs::path& file) {
  const std::string who = "[classifier] " + file.string();
  const SafeTensors tensors(file);
  const auto text = [&](const char* key) {
    const auto at = tensors.metadata().find(key);
    check(at != tensors.metadata().end(), Code::input, who, ": no quality classifier, it lacks \"", key,
          "\"");
    return at->second;
  };
  check(text("format") == "llmctl-quality-classifier-1", Code::input, who, ": format ", text("format"));
  const Json o = parse_json(text("options"), file.string());
  Classifier c;
  const auto number = [&](const char* key, auto& value) {
    check(o.is_object() && o.contains(key) && o.at(key).is_number(), Code::input, who, ": no option ", key);
    value = o.at(key).get<std::remove_reference_t<decltype(value)>>();
  };
  number("buckets_log2", c.options_.buckets_log2);
  number("word_ngrams", c.options_.word_ngrams);
  number("min_chars", c.options_.min_chars);
  number("max_chars", c.options_.max_chars);
  number("epochs", c.options_.epochs);
  number("batch", c.options_.batch);
  number("learning_rate", c.options_.learning_rate);
  number("seed", c.options_.seed);
  number("max_features", c.options_.max_features);
  check_options(c.options_);
  check(o.contains("bias") && o.at("bias").is_string(), Code::input, who, ": no bias");
  const auto bias = o.at("bias").get<std::string>();
  const auto parsed = std::from_chars(bias.data(), bias.data() + bias.size(), c.bias_);
  check(parsed.ec == std::errc(), Code::input, who, ": bias \"", bias, "\"");
  const View weights = tensors.at("weights");
  check(weights.dtype == DType::f32 && weights.size() == int64_t{1} << c.options_.buckets_log2, Code::input,
        who, ": ", weights.size(), " weights for 2^", c.options_.buckets_log2, " buckets");
  c.weights_.resize(static_cast<size_t>(weights.size()));
  std::memcpy(c.weights_.data(), weights.data, static_cast<size_t>(weights.bytes()));
  check(c.digest() == text("digest"), Code::input, who, ": damaged, its digest is ", c.digest(), ", not ",
        text("digest"));
  return c;
}

std::vector<LabelledText> read_labelled(const fs::path& file, const std::string& good) {
  std::vector<LabelledText> documents;
  ByteReader reader(file);
  uint64_t number = 0;
  for (std::string line; reader.line(line);) {
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const std::string who = file.string() + " line " + std::to_string(number);
    const Json json = parse_json(line, who);
    check(json.is_object() && json.contains("text") && json.at("text").is_string() && json.contains("label"),
          Code::input, "[classifier] ", who, ": {\"text\": ..., \"label\": ...} is needed");
    const Json& label = json.at("label");
    const bool binary = label.is_boolean() || (label.is_number_integer() && (label == 0 || label == 1));
    check(binary || label.is_string(), Code::input, "[classifier] ", who, ": label ", json_text(label),
          ": true, false, 1, 0 or text");
    const bool is_good = label.is_string()    ? label.get<std::string>() == good
                         : label.is_boolean() ? label.get<bool>()
                                              : label == 1;
    documents.push_back({json.at("text").get<std::string>(), is_good});
  }
  return documents;
}

double auroc(std::span<const double> scores, std::span<const uint8_t> good) {
  check(scores.size() == good.size(), Code::bug, "[classifier] ", scores.size(), " scores, ", good.size(),
        " labels");
  std::vector<size_t> order(scores.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return scores[a] != scores[b] ? scores[a] < scores[b] : a < b; });
  // Pairs that a good document wins; those of equal scores count one half.
  double wins = 0, goods = 0, bads = 0;
  for (size_t i = 0; i < order.size();) {
    double g = 0, b = 0;
    const double score = scores[order[i]];
    for (; i < order.size() && scores[order[i]] == score; ++i) (good[order[i]] != 0 ? g : b) += 1;
    wins += g * (bads + b / 2);
    goods += g;
    bads += b;
  }
  check(goods > 0 && bads > 0, Code::input, "[classifier] AUROC of ", goods, " good and ", bads,
        " other documents");
  return wins / (goods * bads);
}

}  // namespace llmctl
