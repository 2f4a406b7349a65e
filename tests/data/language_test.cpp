// SPDX-License-Identifier: Apache-2.0
#include "data/web/language.h"

#include "samples.h"

using namespace llmctl;

TEST_CASE("languages are named with a score", "[web]") {
  if (!LanguageIdentifier::available()) {
    CHECK(code_of([] { LanguageIdentifier(); }) == Code::unsupported);
    WARN("skipped: libcld2.so.0 is not here");
    return;
  }
  const LanguageIdentifier identifier;
  const LanguageGuess en = identifier.identify(
      "The quick brown fox jumps over the lazy dog, and the other animals of the forest watch it with "
      "interest.");
  CHECK(en.code == "en");
  CHECK(en.score > 0.9);
  CHECK(en.is_reliable);
  const LanguageGuess de = identifier.identify(
      "Der schnelle braune Fuchs springt \xC3\xBC"
      "ber den faulen Hund, und die anderen Tiere des Waldes sehen zu.");
  CHECK(de.code == "de");
  CHECK(identifier.identify("").code == "un");
  CHECK(identifier.identify("the \xFF the").code == "un");
  // cut between code points, whatever the limit
  const std::string greek = "\xCE\xB1\xCE\xB2\xCE\xB3\xCE\xB4\xCE\xB5";
  for (size_t n = 0; n <= greek.size(); ++n) identifier.identify(greek, n);
}

TEST_CASE("the article in many languages is known in each", "[web]") {
  if (!LanguageIdentifier::available()) return;
  const LanguageIdentifier identifier;
  for (const auto& [name, code] : std::vector<std::pair<std::string, std::string>>{{"arabic", "ar"},
                                                                                   {"czech", "cs"},
                                                                                   {"english", "en"},
                                                                                   {"french", "fr"},
                                                                                   {"german", "de"},
                                                                                   {"greek", "el"},
                                                                                   {"hebrew", "he"},
                                                                                   {"hindi", "hi"},
                                                                                   {"japanese", "ja"},
                                                                                   {"korean", "ko"},
                                                                                   {"russian", "ru"},
                                                                                   {"thai", "th"},
                                                                                   {"turkish", "tr"}}) {
    const fs::path file = shared_file("data/text/wikipedia_mars/" + name + ".utf8.txt");
    if (file.empty()) return;
    INFO(name);
    CHECK(identifier.identify(read_file(file)).code == code);
  }
}
