// SPDX-License-Identifier: Apache-2.0
// Keys and tokens: by the beginnings their makers document, and by what they are assigned to.
#include <algorithm>
#include <array>

#include "data/quality/scrub_finders.h"

namespace llmctl {
namespace {

struct Token {
  std::string_view begins;
  size_t least, most;  // bytes after it
  bool wide;           // - and _ too; else letters and digits
};
constexpr size_t kMost = 4096;
constexpr Token kTokens[] = {
    {"AKIA", 16, 16, false},      {"ASIA", 16, 16, false},      {"ABIA", 16, 16, false},
    {"ghp_", 36, 255, false},     {"gho_", 36, 255, false},     {"ghu_", 36, 255, false},
    {"ghs_", 36, 255, false},     {"ghr_", 36, 255, false},     {"github_pat_", 36, 255, true},
    {"glpat-", 20, 64, true},     {"xoxb-", 20, 255, true},     {"xoxp-", 20, 255, true},
    {"xoxa-", 20, 255, true},     {"xoxr-", 20, 255, true},     {"xoxs-", 20, 255, true},
    {"AIza", 35, 35, true},       {"sk_live_", 16, 255, false}, {"rk_live_", 16, 255, false},
    {"sk_test_", 16, 255, false}, {"sk-", 32, 255, true},       {"hf_", 30, 64, false},
    {"npm_", 36, 36, false}};
constexpr std::string_view kNames[] = {"password",    "passwd",  "secret",    "token",      "api_key",
                                       "apikey",      "api-key", "auth_key",  "access_key", "accesskey",
                                       "private_key", "pwd",     "credential"};

bool is_token_byte(char c, bool wide) {
  return is_byte(c, kLetterByte | kDigitByte) || (wide && (c == '-' || c == '_'));
}

size_t run_end(std::string_view t, size_t i, bool wide) {
  const size_t stop = std::min(t.size(), i + kMost);
  while (i < stop && is_token_byte(t[i], wide)) ++i;
  return i;
}

// header.payload.signature in base64url, header and payload JSON objects.
size_t jwt_end(std::string_view t, size_t at) {
  size_t i = run_end(t, at, true);
  for (int part = 0; part < 2; ++part) {
    if (byte_at(t, i) != '.' || (part == 0 && t.substr(i + 1, 2) != "ey")) return 0;
    const size_t end = run_end(t, i + 1, true);
    if (end - i < 10) return 0;
    i = end;
  }
  return i - at >= 40 ? i : 0;
}

size_t pem_end(std::string_view t, size_t at) {
  constexpr std::string_view begin = "-----BEGIN ", key = "PRIVATE KEY", dashes = "-----";
  if (t.substr(at, begin.size()) != begin) return 0;
  const std::string_view head = t.substr(at, 64);
  const size_t name = head.find(key);
  if (name == std::string_view::npos) return 0;
  const size_t body = at + name + key.size() + dashes.size();
  if (body > t.size()) return 0;
  // To the foot; the head alone when other dashes come first.
  const size_t foot = t.substr(body, size_t{1} << 16).find(dashes);
  if (foot == std::string_view::npos || t.substr(body + foot, 9) != "-----END ") return body;
  const size_t stop = t.substr(body + foot + 9, 64).find(dashes);
  return body + foot + 9 + (stop == std::string_view::npos ? 0 : stop + dashes.size());
}

// Looks random: letters and digits mixed, and about as many different bytes as chance gives.
bool is_random(std::string_view v) {
  std::array<uint16_t, 256> seen{};
  size_t different = 0, digits = 0, letters = 0, pairs = 0;
  for (size_t i = 0; i < v.size(); ++i) {
    different += seen[static_cast<uint8_t>(v[i])]++ == 0;
    digits += is_byte(v[i], kDigitByte);
    letters += is_byte(v[i], kLetterByte);
    pairs += i > 0 && is_byte(v[i], kDigitByte) != is_byte(v[i - 1], kDigitByte);
  }
  return digits >= 2 && letters >= 2 && different >= std::min<size_t>(v.size() / 2, 10) && pairs >= 3;
}

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
}

// Whether a name such as db_password ends at `end`.
bool names_a_secret(std::string_view t, size_t end) {
  size_t i = end;
  while (i > 0 && end - i < 3 && (t[i - 1] == ' ' || t[i - 1] == '"' || t[i - 1] == '\'')) --i;
  std::array<char, 40> name;
  size_t n = name.size();
  while (i > 0 && n > 0 && (is_token_byte(t[i - 1], true))) name[--n] = lower(t[--i]);
  const std::string_view found(name.data() + n, name.size() - n);
  return std::any_of(std::begin(kNames), std::end(kNames),
                     [&](std::string_view k) { return found.find(k) != std::string_view::npos; });
}

}  // namespace

size_t token_end(std::string_view t, size_t at) {
  if (t[at] == '-') return pem_end(t, at);
  if (at > 0 && (t[at - 1] == '_')) return 0;
  if (t.substr(at, 3) == "eyJ") return jwt_end(t, at);
  for (const Token& token : kTokens) {
    if (t[at] != token.begins[0] || t.substr(at, token.begins.size()) != token.begins) continue;
    const size_t from = at + token.begins.size(), end = run_end(t, from, token.wide);
    if (end - from < token.least || end - from > token.most) continue;
    const std::string_view value = t.substr(from, end - from);
    const auto is_random_byte = [](char c) { return is_byte(c, kDigitByte) || (c >= 'A' && c <= 'Z'); };
    // Words joined by _ and - are no key.
    if (std::count_if(value.begin(), value.end(), is_random_byte) >= 3) return end;
  }
  return 0;
}

size_t assigned_secret_end(std::string_view t, size_t at, size_t& begin) {
  if (at == 0 || !names_a_secret(t, at)) return 0;
  begin = at + 1;
  for (int k = 0;
       k < 3 && (byte_at(t, begin) == ' ' || byte_at(t, begin) == '"' || byte_at(t, begin) == '\'' ||
                 byte_at(t, begin) == '>' || byte_at(t, begin) == '=');
       ++k)
    ++begin;
  size_t end = begin;
  const size_t stop = std::min(t.size(), begin + kMost);
  while (end < stop && is_byte(t[end], kValueByte)) ++end;
  while (end > begin && t[end - 1] == '.') --end;
  return end - begin >= 16 && is_random(t.substr(begin, end - begin)) ? end : 0;
}

}  // namespace llmctl
