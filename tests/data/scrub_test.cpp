// SPDX-License-Identifier: Apache-2.0
// Personal data: hand-written cases of each rule, then 500 seeded finds and 500 seeded near misses a kind.
#include "data/quality/scrub.h"

#include <catch2/catch.hpp>
#include <chrono>
#include <random>

namespace llmctl {
namespace {

using Random = std::mt19937_64;

std::string only_placeholder(const std::string& text) {
  return scrub(text).text;
}

size_t pick(Random& r, size_t n) {
  return static_cast<size_t>(r() % n);
}
std::string digits(Random& r, size_t n) {
  std::string s;
  for (size_t i = 0; i < n; ++i) s += static_cast<char>('0' + pick(r, 10));
  return s;
}
std::string from(Random& r, std::string_view alphabet, size_t n) {
  std::string s;
  for (size_t i = 0; i < n; ++i) s += alphabet[pick(r, alphabet.size())];
  return s;
}
template <size_t N>
std::string one_of(Random& r, const char* const (&list)[N]) {
  return list[pick(r, N)];
}
constexpr std::string_view kLower = "abcdefghijklmnopqrstuvwxyz";
constexpr std::string_view kAlphanumeric = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

std::string luhn(std::string body, int wrong) {
  int sum = 0;
  for (size_t i = 0; i < body.size(); ++i) {
    int d = body[body.size() - 1 - i] - '0';
    if (i % 2 == 0) d = d * 2 > 9 ? d * 2 - 9 : d * 2;
    sum += d;
  }
  return body + static_cast<char>('0' + (10 - sum % 10 + wrong) % 10);
}

std::string grouped(const std::string& s, const std::vector<size_t>& sizes, const std::string& mark) {
  std::string out;
  size_t at = 0;
  for (const size_t n : sizes) {
    if (at > 0) out += mark;
    out += s.substr(at, n);
    at += n;
  }
  return out;
}

std::string email(Random& r) {
  const char* const domains[] = {"example", "mail", "uni-ulm", "a1", "firma.xn--bcher-kva"};
  const char* const tops[] = {"com", "org", "de", "co.uk", "museum"};
  const std::string joints[] = {"", ".", "_", "-", "+"};
  return from(r, kLower, 1 + pick(r, 9)) + joints[pick(r, 5)] + from(r, kAlphanumeric, 1 + pick(r, 5)) + "@" +
         one_of(r, domains) + "." + one_of(r, tops);
}
std::string not_email(Random& r) {
  const std::string a = from(r, kLower, 5), b = from(r, kLower, 5);
  const std::string shapes[] = {a + "@" + b,  "@" + a + "." + b + " said", a + " @ " + b + ".com",
                                a + "@." + b, a + "@" + b + ".1",          a + ".@" + b + ".com"};
  return shapes[pick(r, 6)];
}

std::string nanp(Random& r) {
  std::string s = digits(r, 10);
  s[0] = s[3] = '7';
  if (s[1] == '1') s[1] = '2';
  if (s[4] == '1') s[4] = '2';
  return s;
}
std::string phone(Random& r) {
  const std::string us = nanp(r), a = us.substr(0, 3), b = us.substr(3, 3), c = us.substr(6);
  const std::string shapes[] = {"(" + a + ") " + b + "-" + c,
                                a + "-" + b + "-" + c,
                                a + "." + b + "." + c,
                                a + " " + b + " " + c,
                                "1-" + a + "-" + b + "-" + c,
                                "+1 (" + a + ") " + b + "-" + c,
                                "+1" + us,
                                "+44 20 7" + digits(r, 3) + " " + digits(r, 4),
                                "+49 (0)30 " + digits(r, 7),
                                "+33 1 " + grouped(digits(r, 8), {2, 2, 2, 2}, " "),
                                "+86-10-" + digits(r, 8),
                                "+358 40 " + digits(r, 7),
                                "+91" + digits(r, 10)};
  return shapes[pick(r, 13)];
}
std::string not_phone(Random& r) {
  const std::string d = digits(r, 10);
  const std::string shapes[] = {"20" + digits(r, 2) + "-0" + digits(r, 1) + "-1" + digits(r, 1),
                                d,
                                "$1,2" + digits(r, 2) + ",345.67",
                                "1" + d.substr(0, 2) + "-555-" + d.substr(6),  // no area code begins with 1
                                "711-" + d.substr(0, 3) + "-" + d.substr(6),   // a service code
                                "978-3-16-148410-" + d.substr(0, 1),           // ISBN
                                "/view/702-" + d.substr(3, 3) + "-" + d.substr(6),  // part of a path
                                "v702." + d.substr(3, 3) + "." + d.substr(6) + ".12",
                                d.substr(0, 5) + "-" + d.substr(5, 4),
                                "+0" + d,
                                "x" + grouped(nanp(r), {3, 3, 4}, "-")};
  return shapes[pick(r, 11)];
}

std::string octet(Random& r) {
  return std::to_string(pick(r, 256));
}
std::string address(Random& r) {
  const char* const firsts[] = {"8", "23", "52", "93", "131", "151", "178", "193", "208", "213"};
  const std::string four = one_of(r, firsts) + "." + octet(r) + "." + octet(r) + "." + octet(r);
  const std::string hex = "0123456789abcdef";
  const auto group = [&] { return "a" + from(r, hex, 3); };
  const std::string shapes[] = {four,
                                four,
                                four + ":8080",
                                "[" + four + "]",
                                "2a00:" + group() + "::" + group(),
                                "2600:" + group() + ":" + group() + ":" + group() + ":1:2:3:" + group()};
  return shapes[pick(r, 6)];
}
std::string not_address(Random& r) {
  const std::string o = octet(r), p = octet(r);
  const std::string shapes[] = {"10." + o + "." + p + ".1",
                                "192.168." + o + "." + p,
                                "172.16." + o + "." + p,
                                "127.0.0.1",
                                "8.8.8",
                                "8.8." + o + ".256",
                                "1.2.3.4.5",
                                "fe80::1",
                                "::1",
                                "2001:db8::" + o,
                                "12:34:56",
                                "224.0." + o + "." + p,
                                "08.8.8.8",
                                "3.14.15-" + o,
                                "std::vector",
                                "100.64." + o + ".9"};
  return shapes[pick(r, 16)];
}

std::string card_of(Random& r, int wrong) {
  const std::string mark = std::vector<std::string>{"", " ", "-"}[pick(r, 3)];
  const std::vector<size_t> fours = {4, 4, 4, 4}, amex = {4, 6, 5};
  switch (pick(r, 4)) {
    case 0:
      return grouped(luhn("4" + digits(r, 14), wrong), fours, mark);
    case 1:
      return grouped(luhn("5" + std::to_string(1 + pick(r, 5)) + digits(r, 13), wrong), fours, mark);
    case 2:
      return grouped(luhn("37" + digits(r, 12), wrong), amex, mark);
    default:
      return grouped(luhn("6011" + digits(r, 11), wrong), fours, mark);
  }
}
std::string not_card(Random& r) {
  const std::string shapes[] = {card_of(r, 1 + static_cast<int>(pick(r, 9))), luhn("9" + digits(r, 14), 0),
                                luhn("4" + digits(r, 9), 0), "a" + luhn("4" + digits(r, 14), 0),
                                luhn("4" + digits(r, 14), 0) + "." + digits(r, 3)};
  return shapes[pick(r, 5)];
}

std::string secret(Random& r) {
  constexpr std::string_view base32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
  const std::string value = from(r, kAlphanumeric, 16 + pick(r, 24)) + "4g7";
  const std::string shapes[] = {
      "AKIA" + from(r, base32, 16),
      "ghp_" + from(r, kAlphanumeric, 36),
      "github_pat_" + from(r, kAlphanumeric, 22) + "_" + from(r, kAlphanumeric, 59),
      "xoxb-" + digits(r, 12) + "-" + from(r, kAlphanumeric, 24),
      "eyJ" + from(r, kAlphanumeric, 20) + ".eyJ" + from(r, kAlphanumeric, 30) + "." +
          from(r, kAlphanumeric, 43),
      "-----BEGIN RSA PRIVATE KEY-----\n" + from(r, kAlphanumeric, 64) + "\n-----END RSA PRIVATE KEY-----",
      "DB_PASSWORD=" + value,
      "\"api_key\": \"" + value + "\"",
      "secret_token = '" + value + "'",
      "AIza" + from(r, kAlphanumeric, 35),
      "sk_live_" + from(r, kAlphanumeric, 24)};
  return shapes[pick(r, 11)];
}
std::string not_secret(Random& r) {
  const char* const shapes[] = {"password: please choose a long one",
                                "AKIAN is a name",
                                "token = tokenizer.next_token()",
                                "secret=",
                                "the_password_reset_form_is_below",
                                "sk-learn-and-other-libraries-for-python-users",
                                "-----BEGIN CERTIFICATE-----",
                                "api_key=YOUR_API_KEY_GOES_HERE",
                                "ghp_short",
                                "eyJhbGciOi.x.y",
                                "xoxb-",
                                "password=aaaaaaaaaaaaaaaaaaaaaaaa",
                                "digest: d41d8cd98f00b204e9800998ecf8427e"};
  return one_of(r, shapes);
}

std::string in_a_sentence(Random& r, const std::string& what) {
  const char* const before[] = {"Write to ", "", "see: ", "(", "\n- ", "It was \"", "caf\xC3\xA9 "};
  const char* const after[] = {" today.", "", ".", ", or so", "\n", " \xE2\x80\x93 yes"};
  const size_t b = pick(r, 7);
  const std::string close = b == 3 ? ")" : b == 5 ? "\"" : "";
  return before[b] + what + close + after[pick(r, 6)];
}

struct Kind {
  PersonalData kind;
  std::string (*find)(Random&);
  std::string (*miss)(Random&);
  double recall, false_alarms;  // least, most
};

std::string card(Random& r) {
  return card_of(r, 0);
}

}  // namespace

TEST_CASE("500 seeded finds and 500 near misses of each kind", "[scrub]") {
  const Kind kinds[] = {{PersonalData::email, email, not_email, .99, .01},
                        {PersonalData::phone, phone, not_phone, .97, .02},
                        {PersonalData::ip, address, not_address, .99, .01},
                        {PersonalData::card, card, not_card, .99, .02},
                        {PersonalData::secret, secret, not_secret, .97, .02}};
  for (const Kind& k : kinds) {
    Random r(1000 + static_cast<uint64_t>(k.kind));
    int found = 0, alarms = 0;
    std::string missed, alarm;
    for (int i = 0; i < 500; ++i) {
      const std::string what = k.find(r), text = in_a_sentence(r, what);
      const std::vector<PersonalSpan> spans = find_personal_data(text);
      // Found when one span of the kind covers its letters and digits.
      const bool hit =
          spans.size() == 1 && spans[0].kind == k.kind &&
          what.find(text.substr(spans[0].begin, spans[0].end - spans[0].begin)) != std::string::npos;
      found += hit;
      if (!hit) missed = text;
      const std::string none = in_a_sentence(r, k.miss(r));
      const Scrubbed s = scrub(none);
      const bool rang = s.counts[static_cast<size_t>(k.kind)] > 0;
      alarms += rang;
      if (rang) alarm = none + " -> " + s.text;
    }
    INFO(name_of(k.kind) << " recall " << found / 500. << " false alarms " << alarms / 500.
                         << "; missed: " << missed << "; alarm: " << alarm);
    CHECK(found / 500. >= k.recall);
    CHECK(alarms / 500. <= k.false_alarms);
  }
}

TEST_CASE("placeholders, FineWeb's replacements and counts", "[scrub]") {
  CHECK(only_placeholder("a@b.com, 8.8.8.8 and 202-456-1111: 4111 1111 1111 1111") ==
        "[EMAIL], [IP] and [PHONE]: [CARD]");
  CHECK(only_placeholder("password = \"hunter2Xq9vB3kLm\"") == "password = \"[SECRET]\"");
  CHECK(only_placeholder("mail (at) a@b.com. <x.y@z.org>") == "mail (at) [EMAIL]. <[EMAIL]>");
  CHECK(only_placeholder("nothing here: 10.0.0.1, 3.14, 2001-09-11") ==
        "nothing here: 10.0.0.1, 3.14, 2001-09-11");
  CHECK(only_placeholder("") == "");
  ScrubOptions fineweb;
  fineweb.fineweb = true;
  const Scrubbed s = scrub("a@b.com c@d.org e@f.net 8.8.8.8 9.9.9.9 2600::1 10.0.0.1", fineweb);
  CHECK(s.text ==
        "email@example.com firstname.lastname@example.org email@example.com 22.214.171.124 126.96.36.199 "
        "[IP] 10.0.0.1");
  CHECK(s.counts[0] == 3);
  CHECK(s.counts[2] == 3);
  CHECK(s.counts[1] + s.counts[3] + s.counts[4] == 0);
  ScrubOptions none;
  none.email = none.phone = none.ip = none.card = none.secret = false;
  CHECK(find_personal_data("a@b.com 8.8.8.8 password=Hunter2hunter2hunter2", none).empty());
}

TEST_CASE("scrubbing is linear in hostile text", "[scrub]") {
  const char* const hostile[] = {
      "a@", "1", "1-",     "1 ", ":", "a:", "eyJ",  "-----BEGIN ", "=",    "password=",
      "a",  ".", "8.8.8.", "+1", "(", "@",  "1:2:", "ghp_",        "\xFF", "-----BEGIN PRIVATE KEY----- "};
  for (const char* piece : hostile) {
    std::string text;
    while (text.size() < (size_t{2} << 20)) text += piece;
    const auto start = std::chrono::steady_clock::now();
    scrub(text);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    INFO(piece << " " << seconds.count() << " s");
    CHECK(seconds.count() < 5);
  }
}

TEST_CASE("scrubbing random bytes", "[.fuzz]") {
  Random r(7);
  const char* const pieces[] = {"a@b.c", "+1", "8.8.",        "4111 1111 ",  "AKIA",      "password", "=",
                                ":",     "::", "-----BEGIN ", "PRIVATE KEY", "-----END ", "eyJ",      ".",
                                "ey",    "(",  ")",           "@",           "ghp_",      "\xFF"};
  for (int round = 0; round < 50000; ++round) {
    std::string text;
    for (size_t n = pick(r, 40); n > 0; --n)
      text += pick(r, 3) == 0   ? std::string(1, static_cast<char>(r()))
              : pick(r, 2) == 0 ? digits(r, 1 + pick(r, 6))
                                : one_of(r, pieces);
    uint64_t last = 0;
    for (const PersonalSpan& s : find_personal_data(text)) {
      REQUIRE(s.begin >= last);
      REQUIRE(s.end > s.begin);
      REQUIRE(s.end <= text.size());
      last = s.end;
    }
  }
}

}  // namespace llmctl
