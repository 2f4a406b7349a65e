// SPDX-License-Identifier: Apache-2.0
// Personal data and secrets out of a text, in time linear in it.
//
//   email     RFC 5322 dot-atom @ domain with a dot
//   phone     +country numbers of 8 to 15 digits (E.164), and US numbers whose area and exchange are valid
//   ip        IPv4 and IPv6 addresses that are globally reachable (IANA special-purpose registries)
//   card      13 to 19 digits of a known issuer with a right Luhn digit
//   secret    AWS, GitHub, Slack, Google and Stripe keys, JWTs, PEM private keys, and assignments of
//             high-entropy values to names such as password, api_key, token
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace llmctl {

enum class PersonalData : uint8_t { email, phone, ip, card, secret };
constexpr int kPersonalDataKinds = 5;
const char* name_of(PersonalData kind);

struct ScrubOptions {
  bool email = true, phone = true, ip = true, card = true, secret = true;
  // FineWeb's replacements for e-mail and IPv4 addresses (datatrove), in turn; others and IPv6 get
  // placeholders. Otherwise every find becomes [EMAIL], [PHONE], [IP], [CARD] or [SECRET].
  bool fineweb = false;
};

struct PersonalSpan {
  PersonalData kind = PersonalData::email;
  uint64_t begin = 0, end = 0;  // bytes of the text that was given
};

struct Scrubbed {
  std::string text;
  std::array<uint64_t, kPersonalDataKinds> counts{};  // by PersonalData
};

// In order of begin, never overlapping. Any bytes.
std::vector<PersonalSpan> find_personal_data(std::string_view text, const ScrubOptions& options = {});
// The replacements of one document begin anew: a document's text depends on no other.
Scrubbed scrub(std::string_view text, const ScrubOptions& options = {});

}  // namespace llmctl
