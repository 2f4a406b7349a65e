// SPDX-License-Identifier: Apache-2.0
#include "data/samples/corpus.h"

#include <map>
#include <set>

#include "core/base/digest.h"
#include "data/packed/counter_random.h"
#include "data/samples/arithmetic.h"
#include "data/text/utf8.h"
#include "samples.h"

using namespace llmctl;

namespace {

// Every "a op b=?" in a text.
std::vector<ArithmeticProblem> problems_in(const std::string& text) {
  std::vector<ArithmeticProblem> out;
  for (size_t at = 0; (at = text.find("=?\n", at)) != std::string::npos; ++at) {
    size_t begin = at;
    while (begin > 0 && std::string("0123456789+-x").find(text[begin - 1]) != std::string::npos) --begin;
    ArithmeticProblem p;
    REQUIRE(std::sscanf(text.c_str() + begin, "%d%c%d", &p.a, &p.op, &p.b) == 3);
    out.push_back(p);
  }
  return out;
}

}  // namespace

TEST_CASE("arithmetic is worked as its header says", "[corpus]") {
  CHECK(arithmetic_prompt({345, '+', 278}) == "345+278=?\n");
  CHECK(arithmetic_work({345, '+', 278}) == "5+8+0=3 c1\n4+7+1=2 c1\n3+2+1=6 c0\nanswer 623\n");
  CHECK(arithmetic_work({345, '-', 278}) == "5-8-0=7 b1\n4-7-1=6 b1\n3-2-1=0 b0\nanswer 67\n");
  CHECK(arithmetic_work({47, 'x', 6}) == "7x6=42 +0=2 c4\n4x6=24 +4=8 c2\nanswer 282\n");
  CHECK(arithmetic_work({999, '+', 999}).find("c1\nanswer 1998\n") != std::string::npos);
}

TEST_CASE("answers are checked", "[corpus]") {
  const ArithmeticProblem p{345, '+', 278};
  CHECK(check_arithmetic(p, arithmetic_work(p)));
  CHECK(check_arithmetic(p, "answer 623"));
  CHECK(check_arithmetic(p, "answer 623\nanswer 5\n"));
  CHECK_FALSE(check_arithmetic(p, "answer 6233"));
  CHECK_FALSE(check_arithmetic(p, "answer 62"));
  CHECK_FALSE(check_arithmetic(p, "answer "));
  CHECK_FALSE(check_arithmetic(p, "623"));
  CHECK_FALSE(check_arithmetic(p, ""));
  // The work leads to the answer: its digits, read upwards, with the last carry in front.
  for (const ArithmeticProblem& q : held_out_problems(3, 300)) {
    const std::string work = arithmetic_work(q);
    std::string digits;
    char carry = '0';
    for (size_t at = 0; (at = work.find('\n', at)) != std::string::npos && at + 1 < work.size(); ++at) {
      digits.insert(0, 1, work[at - 4]);
      carry = work[at - 1];
    }
    CHECK(std::stoi(carry + digits) == arithmetic_result(q));
  }
}

TEST_CASE("held-out problems are different, held out and of every kind", "[corpus]") {
  const auto problems = held_out_problems(1, 1000);
  std::set<std::tuple<int, char, int>> seen;
  std::map<char, int> kinds;
  for (const ArithmeticProblem& p : problems) {
    CHECK(is_held_out(p.a, p.op, p.b));
    seen.emplace(p.a, p.op, p.b);
    ++kinds[p.op];
    CHECK(arithmetic_result(p) >= 0);
  }
  CHECK(seen.size() == 1000);
  CHECK(kinds['x'] > 100);
  CHECK(std::abs(kinds['+'] - kinds['-']) <= 1);
  CHECK(held_out_problems(1, 1000) == problems);
  CHECK(held_out_problems(2, 1000) != problems);
  CHECK(is_held_out(123, '+', 456) == is_held_out(456, '+', 123));
}

TEST_CASE("the corpus is a function of its seed", "[corpus]") {
  const auto made = [](uint64_t seed, uint64_t bytes) {
    std::vector<std::string> lines;
    generate_corpus({.seed = seed, .bytes = bytes, .mix = {}},
                    [&](const CorpusDocument& d) { lines.push_back(d.to_json().dump()); });
    return lines;
  };
  const auto large = made(1, 400000), small = made(1, 100000), other = made(2, 100000);
  CHECK(std::equal(small.begin(), small.end(), large.begin()));
  CHECK(small != other);
  std::string all;
  for (const std::string& line : large) all += line + "\n";
  CHECK(digest_of(all).hex() ==
        "c815a66930fe9fd4a5f2c606472c7249");  // changes only when the texts are meant to
}

TEST_CASE("the corpus holds what it promises", "[corpus]") {
  std::map<std::string, uint64_t> bytes;
  std::set<std::string> stories;
  uint64_t total = 0, count = 0;
  generate_corpus({.seed = 4, .bytes = 600000, .mix = {}}, [&](const CorpusDocument& d) {
    bytes[d.kind] += d.bytes();
    total += d.bytes();
    std::string text = d.text;
    for (const ChatMessage& m : d.messages) text += m.role + "\n" + m.content + "\n";
    CHECK(is_utf8(text));
    CHECK(text.find('{') == std::string::npos);
    CHECK(text.find("  ") == std::string::npos);
    for (const ArithmeticProblem& p : problems_in(text)) {
      CHECK_FALSE(is_held_out(p.a, p.op, p.b));
      const std::string body = text.substr(text.find(arithmetic_prompt(p)));
      CHECK(check_arithmetic(p, body));
    }
    if (d.kind == "story") {
      stories.insert(d.text);
      ++count;
    }
    if (d.kind == "chat") {
      CHECK(d.messages.back().role == "assistant");
      CHECK(d.messages.size() >= 2);
    } else {
      CHECK(d.text.back() == '\n');
    }
  });
  CHECK(total >= 600000);
  CHECK(stories.size() == count);  // no story twice
  const CorpusMix mix;
  CHECK(static_cast<double>(bytes["arithmetic"]) / static_cast<double>(total) ==
        Approx(mix.arithmetic / 100).margin(0.01));
  CHECK(static_cast<double>(bytes["chat"]) / static_cast<double>(total) ==
        Approx(mix.chat / 100).margin(0.01));
  CHECK(code_of([] { generate_corpus({.seed = 1, .bytes = 10, .mix = {0, 0, 0, 0}}, {}); }) == Code::usage);
}

TEST_CASE("requests carry the labels of the moderation object", "[corpus]") {
  std::map<std::string, int> labels;
  int safe = 0;
  for (uint64_t i = 0; i < 3000; ++i) {
    const LabelledRequest request = labelled_request(1, i);
    CHECK_FALSE(request.text.empty());
    CHECK(request.text.find('{') == std::string::npos);
    safe += request.categories.empty() ? 1 : 0;
    for (const std::string& c : request.categories) ++labels[c];
    CHECK(labelled_request(1, i).text == request.text);
  }
  CHECK(safe > 1600);
  CHECK(safe < 2000);
  CHECK(labels.size() == 12);
  for (const auto& [label, times] : labels) CHECK(times > 40);
}
