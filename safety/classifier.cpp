// SPDX-License-Identifier: Apache-2.0
#include "safety/classifier.h"

#include <algorithm>

#include "core/base/digest.h"
#include "data/text/utf8.h"

namespace llmctl {
namespace {

constexpr size_t kWindow = 128, kStride = 64;  // words

void window_margins(const TextClassifier& model, const Features& features, std::vector<double>& out) {
  const size_t n = model.categories.size();
  out.assign(model.bias.begin(), model.bias.end());
  for (const Feature& f : features) {
    const float* row = model.weight.data() + static_cast<size_t>(f.bucket) * n;
    for (size_t c = 0; c < n; ++c) out[c] += static_cast<double>(row[c]) * static_cast<double>(f.value);
  }
}

}  // namespace

std::vector<double> TextClassifier::margins(std::string_view text) const {
  check(is_utf8(text), Code::input, "[moderate] the text is not valid UTF-8 (", text.size(),
        " bytes): convert it first");
  const auto words = folded_words(text);
  std::vector<double> best, here;
  for (size_t begin = 0;; begin += kStride) {
    const size_t end = std::min(words.size(), begin + kWindow);
    window_margins(*this, features_of(words, begin, end, shape), here);
    if (best.empty()) best = here;
    for (size_t c = 0; c < best.size(); ++c) best[c] = std::max(best[c], here[c]);
    if (end == words.size()) return best;
  }
}

std::vector<double> TextClassifier::scores(std::string_view text) const {
  auto out = margins(text);
  for (size_t c = 0; c < out.size(); ++c) out[c] = calibration[c].score(out[c]);
  return out;
}

std::string TextClassifier::digest() const {
  std::string numbers;
  for (const std::string& name : categories) (numbers += name) += '\n';
  const auto append = [&](const auto& value) {
    numbers.append(reinterpret_cast<const char*>(&value), sizeof value);
  };
  append(shape.buckets);
  append(shape.char_min);
  append(shape.char_max);
  for (const Calibration& c : calibration) append(c.slope), append(c.offset), append(c.threshold);
  Digest total = digest_of(numbers);
  total += digest_of(weight.data(), weight.size() * sizeof(float));
  total += digest_of(bias.data(), bias.size() * sizeof(float));
  return total.hex();
}

}  // namespace llmctl
