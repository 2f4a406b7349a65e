// SPDX-License-Identifier: Apache-2.0
#include "data/samples/corpus_parts.h"
#include "data/samples/phrases.h"

namespace llmctl {

namespace {

constexpr const char* kTowns[] = {"Oakford",     "Milton",   "Redhill", "Ashby",   "Westport", "Fernley",
                                  "Stonebridge", "Lakeside", "Norwick", "Elmwood", "Sandbay",  "Greenfield",
                                  "Harlow",      "Brookton", "Clayton", "Dunmere"};
constexpr const char* kJobs[] = {"baker",  "teacher",  "doctor",   "painter", "gardener",  "carpenter",
                                 "farmer", "nurse",    "tailor",   "sailor",  "librarian", "potter",
                                 "cook",   "engineer", "musician", "shepherd"};
constexpr const char* kPets[] = {"dog", "cat", "parrot", "rabbit", "turtle", "goat", "hamster", "pony"};
constexpr const char* kPetNames[] = {"Biscuit", "Pepper", "Luna",   "Rusty", "Button", "Coco",
                                     "Shadow",  "Maple",  "Pickle", "Tiger", "Snowy",  "Bubbles"};
constexpr const char* kDays[] = {"Monday", "Tuesday",  "Wednesday", "Thursday",
                                 "Friday", "Saturday", "Sunday"};
constexpr const char* kShops[] = {"market",     "bookshop",    "bakery",      "toy shop",
                                  "fish stall", "flower shop", "garden store"};
constexpr const char* kGoods[] = {"apples", "books",   "rolls",  "candles", "eggs",
                                  "roses",  "pencils", "lemons", "buttons", "plates"};
constexpr const char* kNumbers[] = {"two",   "three", "four", "five", "six",
                                    "seven", "eight", "nine", "ten",  "twelve"};
constexpr const char* kColors[] = {"red", "blue", "green", "yellow", "brown", "gray", "white", "black"};
constexpr const char* kHobbies[] = {"swimming", "singing", "chess",  "fishing",
                                    "dancing",  "drawing", "hiking", "reading"};

struct Fact {
  const char* said[2];
  const char* question;
  const char* answer;
};
constexpr Fact kFacts[] = {
    {{"{Name} lives in {town}.", "{Name} has a house in {town}."},
     "Where does {name} live?",
     "{Name} lives in {town}."},
    {{"{He} works as {a:job}.", "{Name} is {a:job}."}, "What is {name}'s job?", "{Name} is {a:job}."},
    {{"{His} {pet} is called {petname}.", "{Name} has {a:pet} named {petname}."},
     "What is the name of {name}'s {pet}?",
     "The {pet} is called {petname}."},
    {{"On {day} {he} went to the {shop}.", "{Name} visited the {shop} on {day}."},
     "When did {name} go to the {shop}?",
     "{Name} went there on {day}."},
    {{"There {he} bought {number} {goods}.", "{He} came home with {number} {goods}."},
     "How many {goods} did {name} buy?",
     "{Name} bought {number} {goods}."},
    {{"{His} door is {color}.", "{Name} painted the door {color}."},
     "What color is the door?",
     "The door is {color}."},
    {{"{He} likes {hobby} best of all.", "In the evening {he} enjoys {hobby}."},
     "What does {name} like to do?",
     "{Name} likes {hobby}."},
    {{"{His} best friend is {friend}.", "{Name} often meets {his} friend {friend}."},
     "Who is {name}'s friend?",
     "{Name}'s friend is {friend}."}};

Words passage_words(CounterRandom& random) {
  Words words, other;
  set_person(words, "", random, "");
  set_person(other, "", random, words.get("name"));
  words.set("friend", other.get("name"));
  words.set("town", pick(kTowns, random));
  words.set("job", pick(kJobs, random));
  words.set("pet", pick(kPets, random));
  words.set("petname", pick(kPetNames, random));
  words.set("day", pick(kDays, random));
  words.set("shop", pick(kShops, random));
  words.set("goods", pick(kGoods, random));
  words.set("number", pick(kNumbers, random));
  words.set("color", pick(kColors, random));
  words.set("hobby", pick(kHobbies, random));
  return words;
}

}  // namespace

Passage write_passage(CounterRandom& random) {
  const Words words = passage_words(random);
  const size_t facts = std::size(kFacts), told = 4 + random.below(3);
  const Permutation order(facts, random.bits());
  std::vector<bool> tell(facts);
  for (size_t i = 0; i < told; ++i) tell[order(i)] = true;
  Passage passage;
  std::vector<size_t> asked;
  for (size_t f = 0; f < facts; ++f) {
    if (!tell[f]) continue;
    if (!passage.text.empty()) passage.text += " ";
    const bool first = passage.text.empty();  // the first sentence names the person
    const char* said = kFacts[f].said[random.below(2)];
    if (first && std::string(said).find("{Name}") == std::string::npos) said = kFacts[f].said[1];
    passage.text += words.fill(said);
    asked.push_back(f);
  }
  const Permutation shuffle(asked.size(), random.bits());
  for (size_t i = 0; i < asked.size() && i < 3; ++i) {
    const Fact& fact = kFacts[asked[shuffle(i)]];
    passage.questions.emplace_back(words.fill(fact.question), words.fill(fact.answer));
  }
  return passage;
}

}  // namespace llmctl
