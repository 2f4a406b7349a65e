// SPDX-License-Identifier: Apache-2.0
#include "data/samples/corpus.h"

#include <array>

#include "data/samples/arithmetic.h"
#include "data/samples/corpus_parts.h"

namespace llmctl {

namespace {

constexpr const char* kKinds[] = {"story", "arithmetic", "passage", "chat"};

std::string arithmetic_text(CounterRandom& random) {
  constexpr char kOps[] = {'+', '+', '-', '-', 'x'};
  const ArithmeticProblem p = draw_problem(kOps[random.below(5)], false, random);
  return arithmetic_prompt(p) + arithmetic_work(p);
}

std::string passage_text(CounterRandom& random) {
  const Passage passage = write_passage(random);
  std::string text = passage.text + "\n";
  for (const auto& [question, answer] : passage.questions)
    text += "Question: " + question + "\nAnswer: " + answer + "\n";
  return text;
}

}  // namespace

uint64_t CorpusDocument::bytes() const {
  uint64_t n = text.size();
  for (const ChatMessage& m : messages) n += m.role.size() + m.content.size();
  return n;
}

Json CorpusDocument::to_json() const {
  Json json;
  if (messages.empty()) json["text"] = text;
  for (const ChatMessage& m : messages)
    json["messages"].push_back({{"role", m.role}, {"content", m.content}});
  json["kind"] = kind;
  return json;
}

CorpusDocument corpus_document(const std::string& kind, uint64_t seed, uint64_t index) {
  uint64_t stream = 0;
  for (const char c : kind) stream = stream * 131 + static_cast<uint8_t>(c);
  CounterRandom random(keyed_bits(seed, stream), index);
  CorpusDocument document;
  document.kind = kind;
  if (kind == "story")
    document.text = write_story(random);
  else if (kind == "arithmetic")
    document.text = arithmetic_text(random);
  else if (kind == "passage")
    document.text = passage_text(random);
  else if (kind == "chat")
    document.messages = write_chat(random);
  else
    throw Error(Code::usage, "[corpus] kind '" + kind + "' is not story, arithmetic, passage or chat");
  return document;
}

void generate_corpus(const CorpusOptions& options, const std::function<void(const CorpusDocument&)>& sink) {
  const std::array<double, 4> share = {options.mix.story, options.mix.arithmetic, options.mix.passage,
                                       options.mix.chat};
  std::array<uint64_t, 4> made{}, count{};
  bool any = false;
  for (const double s : share) {
    check(s >= 0, Code::usage, "[corpus] a share of ", s, " is below 0");
    any = any || s > 0;
  }
  check(any, Code::usage, "[corpus] every share of the mix is 0");
  for (uint64_t total = 0; total < options.bytes;) {
    size_t next = 4;
    for (size_t k = 0; k < 4; ++k) {
      if (share[k] <= 0) continue;
      if (next == 4 ||
          static_cast<double>(made[k]) * share[next] < static_cast<double>(made[next]) * share[k])
        next = k;
    }
    const CorpusDocument document = corpus_document(kKinds[next], options.seed, count[next]++);
    made[next] += document.bytes();
    total += document.bytes();
    sink(document);
  }
}

Json LabelledRequest::to_json() const {
  Json json = {{"text", text}};
  json["categories"] = Json::array();
  for (const std::string& c : categories) json["categories"].push_back(c);
  return json;
}

LabelledRequest labelled_request(uint64_t seed, uint64_t index) {
  CounterRandom random(keyed_bits(seed, 0x72657175657374), index);
  if (random.chance(60)) return {write_safe_request(random), {}};
  auto [text, category] = write_unsafe_request(random);
  std::vector<std::string> categories = {category};
  const size_t slash = category.find('/');  // a threat is harassment too
  if (slash != std::string::npos) categories.insert(categories.begin(), category.substr(0, slash));
  return {std::move(text), std::move(categories)};
}

}  // namespace llmctl
