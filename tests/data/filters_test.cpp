// SPDX-License-Identifier: Apache-2.0
// Every rule of every preset: a text that just passes and one that just fails, counted by hand.
#include <catch2/catch.hpp>
#include <cmath>
#include <random>

#include "data/quality/recipe.h"
#include "data/quality/words.h"

namespace llmctl {
namespace {

std::string times(int n, const std::string& piece) {
  std::string s;
  for (int i = 0; i < n; ++i) s += piece;
  return s;
}

// A recipe of one preset where only `argument` is a rule (others would fall first); nothing to switch off
// for "" (all rules stand).
Recipe only(const std::string& preset, const std::string& argument) {
  const Json all = Recipe(Json(preset)).resolved().at(0);
  Json filter = {{"preset", preset}};
  for (const auto& [key, value] : all.items()) {
    const bool threshold = value.is_number() && key != argument && key != "max_word_length" &&
                           key != "short_line_length" && key != "min_words_per_line";
    if (threshold) filter[key] = nullptr;
  }
  return Recipe(Json::array({filter}));
}

std::string verdict(const Recipe& recipe, const std::string& text) {
  const Rule* rule = recipe.first_failing(recipe.annotate(text).signals);
  return rule == nullptr ? "kept" : rule->name;
}

double signal(const Recipe& recipe, const std::string& column, const std::string& text) {
  const Annotated a = recipe.annotate(text);
  for (size_t i = 0; i < recipe.columns().size(); ++i)
    if (recipe.columns()[i] == column) return a.signals[i];
  FAIL("no column " << column);
  return 0;
}

// `n` different words of four letters, so that no n-gram repeats: waaa, waab, ...
std::string different(int n, int from = 0) {
  std::string s;
  for (int i = from; i < from + n; ++i) {
    if (!s.empty()) s += ' ';
    s += {'w', static_cast<char>('a' + i / 676), static_cast<char>('a' + i / 26 % 26),
          static_cast<char>('a' + i % 26)};
  }
  return s;
}

struct Case {
  const char* preset;
  const char* argument;  // the threshold that stays
  const char* rule;
  double pass, fail;  // the signal, by hand
  std::string passes, fails;
};

void holds(const Case& c) {
  INFO(c.preset << "." << c.rule);
  const Recipe recipe = only(c.preset, c.argument);
  const Rule* rule = nullptr;
  for (const Rule& r : recipe.rules())
    if (r.name == std::string(c.preset) + "." + c.rule) rule = &r;
  REQUIRE(rule != nullptr);
  const auto column = static_cast<size_t>(rule->column);
  CHECK(recipe.annotate(c.passes).signals[column] == Approx(c.pass).epsilon(1e-12));
  CHECK(recipe.annotate(c.fails).signals[column] == Approx(c.fail).epsilon(1e-12));
  CHECK(verdict(recipe, c.passes) == "kept");
  CHECK(verdict(recipe, c.fails) == rule->name);
}

}  // namespace

TEST_CASE("words: marks, contractions, abbreviations, links and inner cuts", "[filters]") {
  const auto words = [](const std::string& text) {
    std::vector<Word> found;
    split_words(text, WordRule::marks, found);
    std::string joined;
    for (const Word& w : found) joined += (joined.empty() ? "" : "|") + text.substr(w.begin, w.end - w.begin);
    return joined;
  };
  CHECK(words("Hello, world!") == "Hello|,|world|!");
  CHECK(words("(\"quoted\")...") == "(|\"|quoted|\"|)|...");
  CHECK(words("don't I'll it\xE2\x80\x99s") == "do|n't|I|'ll|it|\xE2\x80\x99s");
  CHECK(words("Mr. Smith of the U.S.A. ate, e.g., NASA. ok.") ==
        "Mr.|Smith|of|the|U.S.A.|ate|,|e.g.|,|NASA|.|ok|.");
  CHECK(words("see http://a.org/b-c?d=e, a@b.org.") == "see|http://a.org/b-c?d=e|,|a@b.org|.");
  CHECK(words("well-known 3-4 a/b x=y 10,000 1.5% foo.Bar e.g.") ==
        "well|-|known|3|-|4|a|/|b|x|=|y|10,000|1.5|%|foo|.|Bar|e.g.");
  CHECK(words("\xE4\xB8\xAD\xE6\x96\x87\xE3\x80\x82 \xC2\xA0 \xE2\x80\x9Cx\xE2\x80\x9D") ==
        "\xE4\xB8\xAD\xE6\x96\x87|\xE3\x80\x82|\xE2\x80\x9C|x|\xE2\x80\x9D");
  const auto sentences = [](const std::string& text) {
    std::vector<Word> w;
    split_words(text, WordRule::marks, w);
    return count_sentences(w.data(), w.data() + w.size());
  };
  CHECK(sentences("") == 0);
  CHECK(sentences("One. Two! \"Three?\" Mr. Four is 4.5.") == 4);
  CHECK(sentences("no stop... at all") == 1);
}

TEST_CASE("Gopher's quality rules at their thresholds", "[filters]") {
  const std::string ten = different(10), fifty = different(50);
  const char* p = "gopher_quality";
  holds({p, "min_words", "short_doc", 50, 49, fifty, different(49) + " , . !"});
  holds({p, "max_words", "long_doc", 100000, 100001, times(100000, "a "), times(100001, "a ")});
  // (2 + 3 + 4) / 3 = 3; a letter less is below.
  holds({p, "min_word_length", "short_words", 3, 8 / 3., "ab abc abcd", "ab abc abc"});
  holds({p, "max_word_length", "long_words", 10, 10.5, "abcdefghij abcdefghij", "abcdefghij abcdefghijk"});
  // A hash that stands alone is a word: 1 / 10 passes, 1 / 9 does not.
  holds({p, "max_hash_ratio", "hashes", .1, 1 / 9., different(9) + " #", different(8) + " #"});
  holds({p, "max_ellipsis_ratio", "ellipses", .1, 1 / 9., different(9) + " ...",
         different(8) + " \xE2\x80\xA6"});
  // Nine of ten lines; ten of ten.
  holds({p, "max_bullet_lines", "bullet_lines", .9, 1, times(9, "- word\n") + "word",
         times(9, " \xE2\x80\xA2 word\n") + "-w"});
  holds({p, "max_ellipsis_lines", "ellipsis_lines", .3, 1 / 3., times(3, "so...\n") + times(7, "so\n"),
         "so... \nso\nso"});
  // Eight of ten words hold a letter; seven of nine.
  holds({p, "min_alpha_words", "alpha_words", .8, 7 / 9., different(8) + " 12 34", different(7) + " 12 34"});
  holds({p, "min_stop_words", "stop_words", 2, 1, ten + " the of", ten + " the The the"});
}

TEST_CASE("Gopher's repetition rules at their thresholds", "[filters]") {
  const char* p = "gopher_repetition";
  CHECK(verdict(Recipe(Json(p)), "") == "gopher_repetition.empty");
  // Ten lines, three of them seen before; nine, three.
  holds({p, "dup_line_frac", "dup_line_frac", .3, 1 / 3., "a\na\na\na\nb\nc\nd\ne\nf\ng",
         "a\na\na\na\nb\nc\nd\ne\nf"});
  holds({p, "dup_para_frac", "dup_para_frac", .3, 1 / 3.,
         "a\n\na\n\na\n\n\na\n\nb\n\nc\n\nd\n\ne\n\nf\n\ng\nh",
         "a\n\na\n\na\n\na\n\nb\n\nc\n\nd\n\ne\n\nf\n"});
  // 10 characters repeat of 50; of 49. Newlines count in the text.
  const std::string twice = "abcdefghij\nabcdefghij\n";
  holds({p, "dup_line_char_frac", "dup_line_char_frac", .2, 10 / 49., twice + times(28, "x"),
         twice + times(27, "x")});
  const std::string paragraphs = "abcdefghij\n\nabcdefghij\n\n";
  holds({p, "dup_para_char_frac", "dup_para_char_frac", .2, 10 / 49., paragraphs + times(26, "x"),
         paragraphs + times(25, "x")});
  // The 2-gram "b c" (3 characters) twice is 6 of 30; of 29. One to four words, each once, count once.
  holds(
      {p, "top_2_gram", "top_2_gram", .2, 6 / 29., "b c b c " + times(22, "x"), "b c b c " + times(21, "x")});
  // "b c d" twice: 10 of 56 and 55; .18 lies between.
  holds({p, "top_3_gram", "top_3_gram", 10 / 56., 10 / 55., "b c d b c d " + times(44, "x"),
         "b c d b c d " + times(43, "x")});
  // "b c d e" twice: 14 of 88 and 87; .16.
  holds({p, "top_4_gram", "top_4_gram", 14 / 88., 14 / 87., "b c d e b c d e " + times(72, "x"),
         "b c d e b c d e " + times(71, "x")});
  // n words of four letters twice: 4 n characters repeat.
  const double limits[] = {.15, .14, .13, .12, .11, .10};
  for (int n = 5; n <= 10; ++n) {
    const std::string argument = "dup_" + std::to_string(n) + "_gram";
    const std::string run = different(n) + " " + different(n) + " ";
    const int repeated = 4 * n, least = static_cast<int>(std::ceil(repeated / limits[n - 5] - 1e-9));
    const int rest = least - static_cast<int>(run.size());
    holds({p, argument.c_str(), argument.c_str(), repeated / double(least), repeated / double(least - 1),
           run + times(rest, "x"), run + times(rest - 1, "x")});
  }
}

TEST_CASE("duplicate n-grams are joined without spaces and do not overlap; ties of the top go to the first",
          "[filters]") {
  const Recipe recipe(Json("gopher_repetition"));
  // a b c d e | a b c d e | ... : after a find the search goes on behind it.
  const std::string text = "a b c d e a b c d e a b c d e";
  CHECK(signal(recipe, "gopher_repetition.dup_5_gram", text) == Approx(10. / 29));
  // "ab c" and "a bc" are one when joined.
  CHECK(signal(recipe, "gopher_repetition.dup_5_gram", "ab c d e f a bc d e f") == Approx(6. / 21));
  // "aaaa b" and "b c" come twice each: the first seen is the top, 6 characters.
  CHECK(signal(recipe, "gopher_repetition.top_2_gram", "aaaa b c aaaa b c") == Approx(12. / 17));
}

TEST_CASE("C4's line rules and document rules", "[filters]") {
  const char* p = "c4";
  const std::string good = "One two three. ";
  holds({p, "min_sentences", "few_sentences", 5, 4, times(5, good), times(4, good)});
  holds({p, "max_lorem_ipsum", "lorem_ipsum", 0, 1, "a lorem then ipsum.", "a Lorem Ipsum dolor."});
  holds({p, "max_curly_bracket", "curly_bracket", 0, 1, "a (b) c.", "a {b c."});
  const auto edited = [](const std::string& preset, const std::string& text) {
    return Recipe(Json(preset)).annotate(text).text;
  };
  CHECK(edited("c4", "It has an end.\nIt has no end\nNone here...\nA \"quoted end\"\n") ==
        "It has an end.\nA \"quoted end\"");
  CHECK(edited("c4_fineweb", "It has no end\nTwo words\nNone here at all...") ==
        "It has no end\nNone here at all...");
  CHECK(edited("c4", "a b c.\na b.") == "a b c.");
  CHECK(edited("c4", "a b " + times(1000, "c") + ".\nis kept here.") ==
        "is kept here.");  // 1001 with its stop
  CHECK(edited("c4", "a b " + times(999, "c") + ".") != "");
  CHECK(edited("c4",
               "Enable JavaScript to see.\nWe have cookies to eat.\nPlease use cookies now.\nOur Privacy "
               "Policy.") == "We have cookies to eat.");
  CHECK(edited("c4", "One[12] two[] three[edit] four[citation needed] five[a].") ==
        "One two three four five[a].");
  CHECK(edited("c4",
               "  stripped of space. \r\nanother line too.\x0B"
               "third line too.") == "stripped of space.\nanother line too.\nthird line too.");
}

TEST_CASE("FineWeb's rules at their thresholds, and the paper's variant", "[filters]") {
  const char* p = "fineweb";
  CHECK(verdict(Recipe(Json(p)), " \n \n") == "fineweb.empty");
  // 3 of 25 lines end with a mark (one of them Chinese): .12; 2 of 17 are fewer.
  holds({p, "min_line_punct", "line_punct", .12, 2 / 17.,
         times(2, "ab.\n") + "ab\xE3\x80\x82\n" + times(22, "ab\n\n"), "ab.\nab!\n" + times(15, "ab. \n")});
  const std::string thirty = times(30, "x"), more = times(31, "y");
  // 2 of 3 are short; 3 of 4.
  holds({p, "max_short_lines", "short_lines", 2 / 3., 3 / 4., thirty + "\n" + thirty + "\n" + more,
         thirty + "\n" + thirty + "\na\n" + more});
  // 1 character of 100 repeats; of 99.
  holds({p, "dup_line_chars", "dup_line_chars", .01, 1 / 99., "a\na\n" + times(98, "x"),
         "a\na\n" + times(97, "x")});
  holds({"fineweb_paper", "dup_line_chars", "dup_line_chars", .1, 10 / 99.,
         times(10, "a") + "\n" + times(10, "a") + "\n" + times(80, "x"),
         times(10, "a") + "\n" + times(10, "a") + "\n" + times(79, "x")});
  // 3 breaks to 10 words; to 9.
  holds({p, "max_newline_ratio", "newline_ratio", .3, 1 / 3., different(10) + "\n\n\n",
         different(9) + "\n\n\n"});
}

TEST_CASE("RefinedWeb's line rules, and DCLM's variant of Gopher", "[filters]") {
  const auto edited = [](const std::string& text) { return Recipe(Json("lines")).annotate(text).text; };
  CHECK(edited("ABCdef words\nABCDeF GHI") == "ABCdef words");
  CHECK(edited("12345\n123 45\nsome 345 words") == "123 45\nsome 345 words");
  CHECK(edited("3 likes\n1.2K followers!\n3 like this\nit has 3 likes") == "3 like this\nit has 3 likes");
  CHECK(edited("word\ntwo words") == "two words");
  CHECK(edited("we sell 3 items in cart now\nand then Read more...\nSign-in to see") ==
        "we sell 3  now\nand then \n to see");
  CHECK(edited("a b c d e f g h i j k items in cart") == "a b c d e f g h i j k items in cart");
  CHECK(edited("two words\n\n\n\n\ntwo words") == "two words\n\ntwo words");
  // 1 word of 20 goes; 1 of 19.
  holds({"lines", "max_removed_words", "removed_words", .05, 1 / 19., different(19) + "\nword",
         different(18) + "\nword"});
  const Recipe dclm(Json::array({Json{{"preset", "gopher_quality_dclm"}, {"min_words", nullptr}}}));
  CHECK(verdict(dclm, "the the words") == "kept");
  CHECK(verdict(dclm, "* the the") == "gopher_quality_dclm.bullet_lines");
  CHECK(signal(dclm, "gopher_quality_dclm.words", "so, it's one... ,") == 3);
}

TEST_CASE("a what-if needs the signals alone; presets see the text as edited before", "[filters]") {
  const Recipe strict(parse_json(R"([{"preset": "gopher_quality", "min_words": 60}, "c4", "fineweb"])", "t"));
  const Recipe loose(parse_json(
      R"([{"preset": "gopher_quality", "min_words": 3}, "c4", {"preset": "fineweb", "dup_line_chars": 0.1}])",
      "t"));
  std::string text;
  for (int i = 0; i < 8; ++i) text += "the end of it to " + different(4, 4 * i) + ".\nno end here\n";
  const Annotated a = strict.annotate(text), b = loose.annotate(text);
  CHECK(a.text == b.text);
  REQUIRE(a.signals.size() == b.signals.size());
  for (size_t i = 0; i < a.signals.size(); ++i) CHECK(a.signals[i] == b.signals[i]);
  CHECK(verdict(strict, text) == "kept");  // 8 * 12 words
  CHECK(loose.first_failing(a.signals) == nullptr);
  CHECK(signal(strict, "fineweb.lines", text) == 8);  // C4 took the others
  CHECK(a.text.find("no end") == std::string::npos);
  const Recipe again(strict.resolved());
  CHECK(again.resolved() == strict.resolved());
  CHECK(again.annotate(text).signals == a.signals);
  const Recipe twice(parse_json(R"(["fineweb", "c4", "fineweb"])", "t"));
  CHECK(signal(twice, "fineweb.lines", text) == 16);
  CHECK(signal(twice, "fineweb#2.lines", text) == 8);
}

TEST_CASE("a recipe refuses what it does not know", "[filters]") {
  const auto refused = [](const char* json) {
    try {
      Recipe(parse_json(json, "t"));
    } catch (const Error& e) {
      CHECK(e.code == Code::input);
      return std::string(e.what());
    }
    return std::string("taken");
  };
  CHECK(refused(R"(["gopher"])").find("there are gopher_repetition") != std::string::npos);
  CHECK(refused(R"([{"preset": "fineweb", "dup_lines": 1}])").find("dup_line_chars") != std::string::npos);
  CHECK(refused(R"([{"preset": "c4", "remove_citations": 1}])").find("true is the default") !=
        std::string::npos);
  CHECK(refused(R"([{"preset": "dclm", "min_words": 1}])").find("list of presets") != std::string::npos);
  CHECK(refused(R"([3])").find("a preset's name") != std::string::npos);
  CHECK(refused(R"("fineweb_recipe")") == "taken");
  CHECK(refused("null") == "taken");
}

TEST_CASE("filters take any bytes", "[filters]") {
  const Recipe recipe(parse_json(R"(["fineweb_recipe", "dclm", "c4"])", "t"));
  CHECK(recipe
            .annotate("a\xFF"
                      "b")
            .text.find('\xFF') == std::string::npos);
  CHECK(signal(Recipe(Json("gopher_repetition")), "gopher_repetition.chars", "\xE2\x82 \xFFz") == 4);
  recipe.annotate(std::string(1 << 20, '.'));
  recipe.annotate(std::string(1 << 20, '['));
  recipe.annotate(std::string(1 << 20, 'a'));
  recipe.annotate(std::string(1 << 20, '\n'));
  recipe.annotate(times(1 << 18, "a@"));
}

TEST_CASE("filters on random bytes", "[.fuzz]") {
  const Recipe recipe(parse_json(R"(["fineweb_recipe", "dclm", "c4"])", "t"));
  std::mt19937 random(1);
  const std::string pieces[] = {
      "the ", "a.b", "...", "\xE2\x80\xA6",     "\xE2\x80\x99s", "n't", "\n", "\r\n", "\xC2\x85", "[1]",
      "{",    "-",   "'",   "\xF0\x9F\x98\x80", "\xFF",          "\xE2"};
  for (int round = 0; round < 20000; ++round) {
    std::string text;
    const size_t n = random() % 60;
    for (size_t i = 0; i < n; ++i)
      text += random() % 2 != 0 ? std::string(1, static_cast<char>(random()))
                                : pieces[random() % std::size(pieces)];
    const Annotated a = recipe.annotate(text);
    REQUIRE(a.signals.size() == recipe.columns().size());
    REQUIRE(recipe.annotate(a.text).text.size() <= a.text.size());
  }
}

}  // namespace llmctl
