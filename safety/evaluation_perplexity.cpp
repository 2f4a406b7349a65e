// SPDX-License-Identifier: Apache-2.0
// Tasks perplexity and bits_per_byte: two denominators of the same sum of nats.
#include "safety/elementary.h"
#include "safety/evaluation.h"

namespace llmctl {
namespace {

constexpr double kNatsPerBit = 0.6931471805599453;

// What both numbers rest on, said with them.
Json with_denominators(const TextScore& s, Json result) {
  result["nats"] = s.nats;
  result["tokens"] = s.tokens;
  result["bytes"] = s.bytes;
  result["documents"] = s.documents.size();
  result["context"] = s.context;
  result["stride"] = s.stride;
  result["windows"] = s.windows;
  result["bos"] = s.bos;
  result["first_token"] = s.bos ? "predicted from BOS" : "not predicted";
  result["unpredicted_bytes"] = s.unpredicted_bytes;
  result["end_of_text"] = "not predicted";
  return result;
}

Json optional(const std::optional<double>& value, double factor) { return value ? Json(*value * factor) : Json(nullptr); }

}  // namespace

Json evaluate_perplexity(EvaluationSubject& subject) {
  const TextScore& s = subject.text_score();
  const double mean = s.nats / static_cast<double>(s.tokens), perplexity = elementary::exp(mean);
  return with_denominators(s, {{"perplexity", perplexity},
                               {"stderr", optional(s.token_error, perplexity)},
                               {"n", s.tokens},
                               {"nats_per_token", mean}});
}

Json evaluate_bits_per_byte(EvaluationSubject& subject) {
  const TextScore& s = subject.text_score();
  check(s.bytes > 0, Code::input, "[evaluate] the text has no bytes to divide by");
  const double per_byte = s.nats / static_cast<double>(s.bytes);
  return with_denominators(s, {{"bits_per_byte", per_byte / kNatsPerBit},
                               {"stderr", optional(s.byte_error, 1.0 / kNatsPerBit)},
                               {"n", s.bytes},
                               {"nats_per_byte", per_byte}});
}

}  // namespace llmctl
