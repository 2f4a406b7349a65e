// SPDX-License-Identifier: Apache-2.0
#define PCRE2_CODE_UNIT_WIDTH 8
#include "data/tokenizer/split_regex.h"

#include <pcre2.h>

#include "data/text/utf8.h"
#include "kernels/error.h"

namespace llmctl {

namespace {

// PCRE2 counts U+180E as a space, the Unicode of the other engines does not.
constexpr const char* kSpaceInClass = "\\x09-\\x0d\\x{85}\\p{Z}";

std::string translate(const std::string& pattern) {
  std::string out;
  bool in_class = false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '\\' && i + 1 < pattern.size()) {
      const char next = pattern[++i];
      check(next != 'h' && next != 'H' && next != 'R' && next != 'X' && next != 'K', Code::unsupported,
            "[tokenizer] split pattern uses \\", next, ": regular expression engines disagree on it");
      check(!(next == 'S' && in_class), Code::unsupported, "[tokenizer] split pattern uses \\S inside [...]");
      if (next == 's')
        out += in_class ? std::string(kSpaceInClass) : "[" + std::string(kSpaceInClass) + "]";
      else if (next == 'S')
        out += "[^" + std::string(kSpaceInClass) + "]";
      else
        (out += c) += next;
      continue;
    }
    check(!(in_class && c == '&' && i + 1 < pattern.size() && pattern[i + 1] == '&'), Code::unsupported,
          "[tokenizer] split pattern intersects classes with &&");
    if (in_class && c == '[') {  // a literal for PCRE2, a nested class for the others
      throw Error(Code::unsupported, "[tokenizer] split pattern nests a class inside [...]");
    }
    if (c == '[') {
      in_class = true;
      out += c;
      if (i + 1 < pattern.size() && pattern[i + 1] == '^') out += pattern[++i];
      continue;
    }
    if (c == ']') in_class = false;
    out += c;
  }
  return out;
}

struct MatchDeleter {
  void operator()(pcre2_match_data* p) const { pcre2_match_data_free(p); }
};
struct ContextDeleter {
  void operator()(pcre2_match_context* p) const { pcre2_match_context_free(p); }
};

}  // namespace

struct SplitRegex::State {
  pcre2_code* code = nullptr;
  ~State() { pcre2_code_free(code); }
  void find_valid(std::string_view text, std::vector<Range>& out) const;
};

SplitRegex::SplitRegex(const std::string& pattern) {
  check(pattern.size() <= 65536, Code::input, "[tokenizer] split pattern of ", pattern.size(),
        " bytes, at most 65536 are read");
  const std::string translated = translate(pattern);
  auto state = std::make_shared<State>();
  int error = 0;
  PCRE2_SIZE at = 0;
  state->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                              PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &at, nullptr);
  if (!state->code) {
    PCRE2_UCHAR text[256];
    pcre2_get_error_message(error, text, sizeof text);
    throw Error(Code::unsupported, "[tokenizer] split pattern cannot be compiled: " +
                                       std::string(reinterpret_cast<const char*>(text)) + " at byte " +
                                       std::to_string(at));
  }
  // Without JIT support pcre2_match interprets the pattern: slower, the same matches.
  pcre2_jit_compile(state->code, PCRE2_JIT_COMPLETE);
  state_ = std::move(state);
}

void SplitRegex::State::find_valid(std::string_view text, std::vector<Range>& out) const {
  const std::unique_ptr<pcre2_match_data, MatchDeleter> match(
      pcre2_match_data_create_from_pattern(code, nullptr));
  const std::unique_ptr<pcre2_match_context, ContextDeleter> context(pcre2_match_context_create(nullptr));
  check(match && context, Code::memory, "[tokenizer] no memory for a match");
  pcre2_set_match_limit(context.get(), 200'000'000);
  pcre2_set_heap_limit(context.get(), 512 * 1024);  // KiB
  size_t at = 0;
  while (at < text.size()) {
    const int found = pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at,
                                  PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY, match.get(), context.get());
    if (found == PCRE2_ERROR_NOMATCH) return;
    check(found >= 0, Code::input, "[tokenizer] split pattern gave up on this text, PCRE2 code ", found);
    const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(match.get());
    check(ends[1] > at && ends[0] >= at && ends[0] < ends[1], Code::unsupported,
          "[tokenizer] split pattern matches backwards");
    out.push_back({ends[0], ends[1]});
    at = ends[1];
  }
}

void SplitRegex::find(std::string_view text, std::vector<Range>& out) const {
  if (is_utf8(text)) return state_->find_valid(text, out);
  // A copy with U+FFFD for each stray byte; source[i] is where byte i of the copy came from.
  std::string shadow;
  std::vector<size_t> source;
  for (size_t at = 0; at < text.size();) {
    const CodePoint point = code_point_at(text, at);
    const bool valid = point.kind == CodePoint::Kind::valid;
    const size_t bytes = valid ? point.bytes : 1;
    if (valid)
      shadow.append(text.substr(at, bytes));
    else
      shadow.append("\xEF\xBF\xBD");
    source.resize(shadow.size(), at);
    at += bytes;
  }
  source.push_back(text.size());
  std::vector<Range> found;
  state_->find_valid(shadow, found);
  for (const Range& r : found) out.push_back({source[r.begin], source[r.end]});
}

bool SplitRegex::matches_empty() const {
  uint32_t empty = 0;
  pcre2_pattern_info(state_->code, PCRE2_INFO_MATCHEMPTY, &empty);
  return empty != 0;
}

std::string named_pattern(const std::string& name) {
  // Sources: openai/tiktoken openai_public.py, meta-llama and Qwen tokenizer files.
  static const std::string kContraction = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
  static const std::string kUpper = "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]";
  static const std::string kLower = "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]";
  static const std::string kWord = "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+";
  static const std::string kMarks = " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*";
  static const std::string kSpaces = "\\s+(?!\\S)|\\s+";
  if (name == "none") return "";
  if (name == "gpt2") return "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|" + kSpaces;
  if (name == "cl100k")
    return kContraction + "|" + kWord + "|\\p{N}{1,3}|" + kMarks + "|\\s*[\\r\\n]|" + kSpaces;
  if (name == "llama3")
    return kContraction + "|" + kWord + "|\\p{N}{1,3}|" + kMarks + "|\\s*[\\r\\n]+|" + kSpaces;
  if (name == "qwen2") return kContraction + "|" + kWord + "|\\p{N}|" + kMarks + "|\\s*[\\r\\n]+|" + kSpaces;
  if (name == "o200k")
    return "[^\\r\\n\\p{L}\\p{N}]?" + kUpper + "*" + kLower + "+" + kContraction +
           "?|[^\\r\\n\\p{L}\\p{N}]?" + kUpper + "+" + kLower + "*" + kContraction +
           "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|" + kSpaces;
  throw Error(Code::usage,
              "[tokenizer] pattern '" + name + "' is not one of gpt2, cl100k, o200k, llama3, qwen2, none");
}

}  // namespace llmctl
