// SPDX-License-Identifier: Apache-2.0
#include "data/samples/corpus_parts.h"
#include "data/samples/phrases.h"

namespace llmctl {

namespace {

constexpr const char* kPlaces[] = {"forest",  "garden",   "market",         "harbor",      "meadow",
                                   "library", "old mill", "village square", "beach",       "park",
                                   "farm",    "orchard",  "river",          "hill",        "school yard",
                                   "lake",    "bakery",   "train station",  "castle ruin", "apple field"};
constexpr const char* kThings[] = {"lantern",       "kite",        "basket",   "key",         "map",
                                   "drum",          "blue stone",  "umbrella", "wooden boat", "bell",
                                   "scarf",         "silver coin", "old book", "paper crown", "red ball",
                                   "music box",     "wagon",       "mirror",   "rope",        "ladder",
                                   "pair of boots", "tin whistle", "clay pot", "feather",     "compass"};
constexpr const char* kAnimals[] = {"fox",  "owl",    "rabbit", "hedgehog", "duck",  "squirrel", "turtle",
                                    "goat", "crow",   "frog",   "badger",   "mouse", "deer",     "otter",
                                    "pony", "kitten", "puppy",  "bee",      "swan",  "mole"};
constexpr const char* kFoods[] = {"apple pie", "warm bread",   "carrot soup",    "honey cake",
                                  "plums",     "cheese",       "pancakes",       "berries",
                                  "nuts",      "pumpkin soup", "ginger cookies", "roasted corn"};
constexpr const char* kWeather[] = {"sunny",  "windy", "rainy", "cold", "foggy",
                                    "bright", "quiet", "snowy", "warm", "cloudy"};
constexpr const char* kMoods[] = {"happy", "curious", "worried",  "sleepy", "proud",
                                  "brave", "shy",     "cheerful", "lonely", "excited"};
constexpr const char* kColors[] = {"red",  "blue",  "green", "yellow", "brown",
                                   "gray", "white", "black", "golden", "purple"};
constexpr const char* kKin[] = {"mother", "father", "grandmother", "grandfather",
                                "uncle",  "aunt",   "teacher",     "neighbor"};
constexpr const char* kTimes[] = {"morning", "afternoon", "evening", "day"};

constexpr const char* kOpenings[] = {
    "One {weather} {time}, {name} walked to the {place}.",
    "Once there was a {child} named {name} who lived near the {place}.",
    "{Name} was a {mood} {child}. Every {time} {he} went to the {place}.",
    "It was a {weather} {time}, and {name} did not know what to do.",
    "{Name} and {his} {kin} lived in a small {color} house by the {place}.",
    "On a {weather} {time}, {name} packed some {food} and set out for the {place}.",
    "Long ago, by the {place}, there lived a {mood} {child} called {name}."};

struct Plot {
  const char* beats[5][4];
};

constexpr Plot kPlots[] = {
    {{{"{He} had lost {his} {thing} and felt {mood2}.", "But the {thing} {he} loved was gone.",
       "That {time} {his} {thing} was nowhere to be seen.",
       "{He} looked for {his} {thing}, but it was not there."},
      {"{He} looked under the {color} bench and behind the door.",
       "{Name} searched the {place2} from end to end.",
       "{His} {kin} helped to look, but they found only {a:thing2}.", "{He} asked everyone at the {place2}."},
      {"Then {a:animal} came by with something in its mouth.",
       "Just then {a:animal} made a sound in the grass.", "A {color2} {animal} was sitting on something.",
       "At last {he} followed the tracks of {a:animal}."},
      {"It was the {thing}!", "There lay the {thing}, a little dirty but whole.",
       "The {animal} had kept the {thing} safe all the time.", "Under a leaf {he} saw the {thing}."},
      {"{Name} thanked the {animal} and gave it some {food}.",
       "From then on, {name} always put the {thing} in its place.",
       "{He} laughed and carried the {thing} home.", "The {animal} and {name} became good friends."}}},
    {{{"There {he} met {name2}, who was new in town.", "A {child2} named {name2} stood alone at the gate.",
       "{Name2} sat by the {place2} and did not speak.", "{He} saw {name2}, who had nobody to play with."},
      {"\"Do you want to play with my {thing}?\" asked {name}.", "{Name} smiled and held out {his} {thing}.",
       "\"Hello,\" said {name}. \"I am {name}. Who are you?\"", "{Name} sat down and shared {his} {food}."},
      {"{Name2} was shy at first, but soon {he2} laughed.", "{Name2} looked up and said yes.",
       "\"I am {name2},\" {he2} said, \"and I like your {thing}.\"", "At first {name2} only nodded."},
      {"They played until the sun went down.", "Together they built a house out of boxes.",
       "They ran all the way to the {place2} and back.", "They made up a game with the {thing}."},
      {"After that day, {name} and {name2} were never lonely.", "\"Come again tomorrow,\" said {name2}.",
       "{Name} went home {mood}, for {he} had found a friend.",
       "Their friendship began with one kind word."}}},
    {{{"{He} heard a small cry from the {place2}.", "Near the path {he} found {a:animal} with a hurt leg.",
       "A little {animal} was stuck in a hole.", "{A:animal} had fallen into the water."},
      {"{Name} was {mood2}, but {he} did not run away.", "\"Do not be afraid,\" said {name}.",
       "{He} knelt down and spoke softly.", "{He} knew that {he} had to help."},
      {"{He} used {a:thing} to reach the {animal}.", "{He} ran to fetch {his} {kin}.",
       "{He} wrapped the {animal} in {his} coat.", "With {a:thing} and much patience, {he} pulled it out."},
      {"Soon the {animal} was warm and dry.", "They gave the {animal} water and some {food}.",
       "The {animal} slept all night by the stove.", "After three days the {animal} could walk again."},
      {"When it was time to go, the {animal} looked back once.",
       "{Name} was proud, and {his} {kin} was proud too.",
       "Every spring the {animal} came back to say hello.", "\"You have a good heart,\" said {his} {kin}."}}},
    {{{"{Name} wanted to make {food} for {his} {kin}.", "{His} {kin} had a birthday, and {name} had no gift.",
       "There was going to be a feast at the {place2}.", "{Name} wished to win the contest at the {place2}."},
      {"First {he} tried alone, but everything went wrong.", "{He} worked all {time}, but the work was hard.",
       "The first try fell on the floor.", "{He} forgot one thing, and it did not turn out well."},
      {"{He} was {mood2} and almost gave up.", "\"I will never learn it,\" said {name}.",
       "Then {name2} came and offered to help.", "{His} friend {name2} said, \"Try it once more.\""},
      {"So {he} tried again, slowly and with care.", "{Name} and {name2} worked side by side.",
       "This time {he} counted every step.", "They began again from the start."},
      {"In the end it was better than anyone had hoped.", "Everyone clapped, and {name} was {mood}.",
       "\"It is wonderful,\" said {his} {kin}.", "{Name} learned that it is no shame to try twice."}}},
    {{{"{He} found a door that {he} had never seen before.", "Behind the {place2} there was a narrow path.",
       "In the attic {name} found a map with a {color} mark.",
       "An old letter told of a secret near the {place2}."},
      {"{He} took {a:thing} and went in.", "{Name} called {name2}, and they went together.",
       "{His} heart beat fast, but {he} was curious.", "{He} walked for a long time without a sound."},
      {"Inside there was a room full of {color2} light.",
       "At the end stood a very old {animal} with kind eyes.",
       "They came to a small {place} that nobody knew.", "There was a box with a {color2} lid."},
      {"\"Take one thing,\" said a note, \"and leave one thing.\"", "{He} opened it and found {a:thing2}.",
       "On the wall hung {a:thing2} that shone in the dark.",
       "\"I have waited for you,\" said the {animal}."},
      {"{Name} left {his} {thing} there and went home with a new idea.",
       "{He} never told anyone but {name2}.", "The next day the door was gone.",
       "{Name} kept the secret and smiled whenever {he} thought of it."}}},
    {{{"{Name} and {name2} both wanted the same {thing}.", "{Name2} broke the {thing} and said nothing.",
       "{Name} took a {thing} that was not {his} own.", "{Name} told {name2} something that was not true."},
      {"They shouted, and then they did not speak.", "All {time} {name} felt {mood2}.",
       "{Name2} went home without a word.", "A dark cloud seemed to follow {name} around."},
      {"\"What is wrong?\" asked {his} {kin}.", "At night {name} could not sleep.",
       "{His} {kin} told {him} a story about {a:animal} that was sorry too late.",
       "Then {he} thought of all the good days with {name2}."},
      {"The next morning {name} went to {name2} and said sorry.",
       "{He} wrote a letter with a {color} pen and brought it over.",
       "\"I was wrong,\" said {name}. \"Please forgive me.\"", "{Name} told the truth, though it was hard."},
      {"{Name2} smiled and took {his} hand.", "They shared the {thing} and some {food}.",
       "Telling the truth made {name} feel light.",
       "\"Friends again?\" asked {name2}. \"Friends again,\" said {name}."}}}};

constexpr const char* kClosings[] = {"That night {name} slept well.", "And so the {time} came to an end.",
                                     "{Name} never forgot that {weather} {time}.",
                                     "The stars came out over the {place}, and all was quiet.",
                                     "{His} {kin} gave {him} a hug and some {food}."};

std::string other(std::span<const char* const> list, CounterRandom& random, const std::string& than) {
  std::string word;
  do word = pick(list, random);
  while (word == than);
  return word;
}

Words story_words(CounterRandom& random) {
  Words words;
  set_person(words, "", random, "");
  Words second;
  set_person(second, "", random, words.get("name"));
  for (const char* key : {"name", "he", "him", "his", "child"})
    words.set(std::string(key) + "2", second.get(key));
  words.set("place", pick(kPlaces, random));
  words.set("place2", other(kPlaces, random, words.get("place")));
  words.set("thing", pick(kThings, random));
  words.set("thing2", other(kThings, random, words.get("thing")));
  words.set("animal", pick(kAnimals, random));
  words.set("food", pick(kFoods, random));
  words.set("weather", pick(kWeather, random));
  words.set("mood", pick(kMoods, random));
  words.set("mood2", random.chance(50) ? "sad" : "worried");
  words.set("color", pick(kColors, random));
  words.set("color2", other(kColors, random, words.get("color")));
  words.set("kin", pick(kKin, random));
  words.set("time", pick(kTimes, random));
  return words;
}

}  // namespace

std::string write_story(CounterRandom& random) {
  const Words words = story_words(random);
  const Plot& plot = kPlots[random.below(std::size(kPlots))];
  std::string text = words.fill(pick(kOpenings, random));
  for (const auto& beat : plot.beats) {
    text += " " + words.fill(pick(beat, random));
    if (&beat == &plot.beats[1] && random.chance(30)) text += "\n";
  }
  if (random.chance(60)) text += " " + words.fill(pick(kClosings, random));
  for (size_t at; (at = text.find("\n ")) != std::string::npos;) text.erase(at + 1, 1);
  return text + "\n";
}

}  // namespace llmctl
