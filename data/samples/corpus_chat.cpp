// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "data/samples/arithmetic.h"
#include "data/samples/corpus_parts.h"
#include "data/samples/phrases.h"

namespace llmctl {

namespace {

struct Exchange {
  const char* asked;
  const char* answered;
};
constexpr Exchange kSmallTalk[] = {
    {"Hello!", "Hello! How can I help you today?"},
    {"Hi there.", "Hi! What would you like to do?"},
    {"Good morning.", "Good morning! What can I do for you?"},
    {"How are you?", "I am doing well, thank you. How can I help?"},
    {"Who are you?",
     "I am a small language model trained by llmctl. I can tell short stories and work out sums."},
    {"What can you do?",
     "I can tell short stories, answer questions about a text and work out sums step by step."},
    {"Thank you!", "You are welcome!"},
    {"Thanks a lot.", "You are welcome. Is there anything else?"},
    {"Goodbye.", "Goodbye! Have a nice day."},
    {"That was good.", "I am glad to hear that!"}};

constexpr const char* kDays[] = {"Monday", "Tuesday",  "Wednesday", "Thursday",
                                 "Friday", "Saturday", "Sunday"};
constexpr Exchange kOpposites[] = {{"hot", "cold"},   {"big", "small"},  {"up", "down"},     {"old", "young"},
                                   {"fast", "slow"},  {"light", "dark"}, {"open", "closed"}, {"happy", "sad"},
                                   {"wet", "dry"},    {"full", "empty"}, {"early", "late"},  {"high", "low"},
                                   {"loud", "quiet"}, {"near", "far"}};
constexpr Exchange kColorsOf[] = {{"grass", "green"},          {"the sky on a clear day", "blue"},
                                  {"snow", "white"},           {"coal", "black"},
                                  {"a ripe banana", "yellow"}, {"a ripe tomato", "red"},
                                  {"an elephant", "gray"},     {"chocolate", "brown"}};
constexpr Exchange kSounds[] = {{"dog", "woof"},  {"cat", "meow"}, {"cow", "moo"},     {"duck", "quack"},
                                {"sheep", "baa"}, {"owl", "hoo"},  {"frog", "ribbit"}, {"bee", "buzz"}};

constexpr const char* kSums[] = {
    "What is {e}?",       "Compute {e}.", "How much is {e}?",          "Please work out {e}.",
    "Can you solve {e}?", "{e} = ?",      "I need the result of {e}.", "Calculate {e} for me."};
constexpr const char* kStoryAsks[] = {"Tell me a short story.", "Please write a story.",
                                      "I would like to hear a story.", "Can you tell me a story?",
                                      "Write a short story for a child."};
constexpr const char* kRefusals[] = {
    "I cannot help with that. If you are in danger or feel bad, please talk to someone you trust.",
    "I am sorry, but I will not help with that.",
    "I cannot help with that, but I am happy to help with something else."};
constexpr const char* kSystems[] = {"You are a helpful assistant.", "You answer in a friendly way.",
                                    "You are a small model that explains each step."};

using Turns = std::vector<ChatMessage>;
void say(Turns& turns, std::string asked, std::string answered) {
  turns.push_back({"user", std::move(asked)});
  turns.push_back({"assistant", std::move(answered)});
}

// The answer states the problem in its canonical form first, so that the work is the same as outside
// of a chat.
void arithmetic_turn(Turns& turns, CounterRandom& random) {
  constexpr char kOps[] = {'+', '-', 'x'};
  const ArithmeticProblem p = draw_problem(kOps[random.below(3)], false, random);
  const char* gap = random.chance(60) ? " " : "";
  Words words;
  words.set("e", std::to_string(p.a) + gap + p.op + gap + std::to_string(p.b));
  std::string answer = arithmetic_prompt(p) + arithmetic_work(p);
  answer.pop_back();  // the newline: the turn ends here
  say(turns, words.fill(pick(kSums, random)), answer);
}

void fact_turn(Turns& turns, CounterRandom& random) {
  const uint64_t kind = random.below(4);
  const Exchange* e = nullptr;
  if (kind == 0) {
    const uint64_t day = random.below(7);
    say(turns, std::string("Which day comes after ") + kDays[day] + "?",
        std::string(kDays[(day + 1) % 7]) + " comes after " + kDays[day] + ".");
  } else if (kind == 1) {
    e = &kOpposites[random.below(std::size(kOpposites))];
    const bool turned = random.chance(50);
    const std::string a = turned ? e->answered : e->asked, b = turned ? e->asked : e->answered;
    say(turns, "What is the opposite of " + a + "?", "The opposite of " + a + " is " + b + ".");
  } else if (kind == 2) {
    e = &kColorsOf[random.below(std::size(kColorsOf))];
    std::string thing = e->asked;
    thing[0] = static_cast<char>(thing[0] - 'a' + 'A');
    say(turns, std::string("What color is ") + e->asked + "?", thing + " is " + e->answered + ".");
  } else {
    e = &kSounds[random.below(std::size(kSounds))];
    const std::string article = e->asked[0] == 'o' ? "an " : "a ";
    say(turns, "What sound does " + article + e->asked + " make?",
        (article == "an " ? "An " : "A ") + std::string(e->asked) + " says " + e->answered + ".");
  }
}

void story_turn(Turns& turns, CounterRandom& random) {
  std::string story = write_story(random);
  story.pop_back();
  say(turns, pick(kStoryAsks, random), story);
}

void passage_turns(Turns& turns, CounterRandom& random) {
  const Passage passage = write_passage(random);
  say(turns, passage.text + "\n" + passage.questions[0].first, passage.questions[0].second);
  if (random.chance(40)) say(turns, passage.questions[1].first, passage.questions[1].second);
}

}  // namespace

std::vector<ChatMessage> write_chat(CounterRandom& random) {
  Turns turns;
  if (random.chance(20)) turns.push_back({"system", pick(kSystems, random)});
  const uint64_t parts = 1 + (random.chance(30) ? 1 : 0);
  for (uint64_t i = 0; i < parts; ++i) {
    const uint64_t kind = random.below(100);
    if (kind < 45) {
      arithmetic_turn(turns, random);
    } else if (kind < 60) {
      const Exchange& e = kSmallTalk[random.below(std::size(kSmallTalk))];
      say(turns, e.asked, e.answered);
    } else if (kind < 75) {
      fact_turn(turns, random);
    } else if (kind < 85) {
      passage_turns(turns, random);
    } else if (kind < 94) {
      story_turn(turns, random);
    } else {
      say(turns, write_unsafe_request(random).first, pick(kRefusals, random));
    }
  }
  return turns;
}

}  // namespace llmctl
