// SPDX-License-Identifier: Apache-2.0
#include "data/quality/scrub.h"

#include "data/quality/scrub_finders.h"

namespace llmctl {
namespace {

constexpr const char* kNames[kPersonalDataKinds] = {"email", "phone", "ip", "card", "secret"};
constexpr const char* kPlaceholders[kPersonalDataKinds] = {"[EMAIL]", "[PHONE]", "[IP]", "[CARD]",
                                                           "[SECRET]"};
constexpr std::string_view kFineWebEmails[] = {"email@example.com", "firstname.lastname@example.org"};
constexpr std::string_view kFineWebAddresses[] = {"22.214.171.124", "126.96.36.199",  "188.8.131.52",
                                                  "184.108.40.206", "220.127.116.11", "18.104.22.168"};

struct Finder {
  std::string_view text;
  const ScrubOptions& options;
  std::vector<PersonalSpan>& spans;
  size_t last = 0;       // end of the last span
  size_t hex_until = 0;  // a run of hexadecimal digits and colons up to here held no address

  size_t add(PersonalData kind, size_t begin, size_t end) {
    spans.push_back({kind, begin, end});
    return last = end;
  }

  // At the first byte of a run of letters and digits, at + or at (.
  size_t number_at(size_t i) {
    if (options.ip)
      if (const size_t end = public_ipv4_end(text, i); end != 0) return add(PersonalData::ip, i, end);
    if (options.card)
      if (const size_t end = card_end(text, i); end != 0) return add(PersonalData::card, i, end);
    if (options.phone)
      if (const size_t end = phone_end(text, i); end != 0) return add(PersonalData::phone, i, end);
    return 0;
  }

  size_t hex_at(size_t i) {
    if (!options.ip || i < hex_until) return 0;
    if (const size_t end = public_ipv6_end(text, i); end != 0) return add(PersonalData::ip, i, end);
    hex_until = i;
    while (hex_until < text.size() && (is_byte(text[hex_until], kHexByte) || text[hex_until] == ':'))
      ++hex_until;
    return 0;
  }

  // Where the next look is: past a span, or one byte on.
  size_t look(size_t i) {
    const char c = text[i];
    size_t begin = 0;
    if (c == '@' && options.email)
      if (const size_t end = email_end(text, i, last, begin); end != 0)
        return add(PersonalData::email, begin, end);
    if ((c == '=' || c == ':') && options.secret)
      if (const size_t end = assigned_secret_end(text, i, begin); end != 0)
        return add(PersonalData::secret, begin, end);
    const bool starts = i == 0 || !is_byte(text[i - 1], kLetterByte | kDigitByte);
    if (!starts) return i + 1;
    size_t end = 0;
    if (is_byte(c, kDigitByte) || c == '+' || c == '(') end = number_at(i);
    if (end == 0 && is_byte(c, kHexByte) && !(i > 0 && text[i - 1] == ':')) end = hex_at(i);
    if (end == 0 && options.secret && (is_byte(c, kLetterByte) || c == '-'))
      if (const size_t stop = token_end(text, i); stop != 0) end = add(PersonalData::secret, i, stop);
    return end != 0 ? end : i + 1;
  }
};

}  // namespace

const char* name_of(PersonalData kind) {
  return kNames[static_cast<size_t>(kind)];
}

std::vector<PersonalSpan> find_personal_data(std::string_view text, const ScrubOptions& options) {
  std::vector<PersonalSpan> spans;
  Finder finder{text, options, spans};
  for (size_t i = 0; i < text.size();) {
    // Letters inside words, spaces and most marks begin nothing.
    const char c = text[i];
    const bool inside =
        i > 0 && is_byte(c, kLetterByte | kDigitByte) && is_byte(text[i - 1], kLetterByte | kDigitByte);
    if (inside || c == ' ' || static_cast<uint8_t>(c) >= 0x80) {
      ++i;
      continue;
    }
    i = finder.look(i);
  }
  return spans;
}

Scrubbed scrub(std::string_view text, const ScrubOptions& options) {
  Scrubbed s;
  size_t at = 0, emails = 0, addresses = 0;
  for (const PersonalSpan& span : find_personal_data(text, options)) {
    const auto kind = static_cast<size_t>(span.kind);
    s.text.append(text, at, span.begin - at);
    const bool ipv4 = text.substr(span.begin, span.end - span.begin).find(':') == std::string_view::npos;
    if (options.fineweb && span.kind == PersonalData::email)
      s.text += kFineWebEmails[emails++ % std::size(kFineWebEmails)];
    else if (options.fineweb && span.kind == PersonalData::ip && ipv4)
      s.text += kFineWebAddresses[addresses++ % std::size(kFineWebAddresses)];
    else
      s.text += kPlaceholders[kind];
    ++s.counts[kind];
    at = span.end;
  }
  s.text.append(text, at);
  return s;
}

}  // namespace llmctl
