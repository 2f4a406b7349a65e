// SPDX-License-Identifier: Apache-2.0
// Bytes that pretend to be a GGUF file, a sentencepiece model or a .tiktoken file.
#include "core/io/gguf.h"
#include "data/packed/counter_random.h"
#include "data/tokenizer/charsmap.h"
#include "data/tokenizer/tokenizer_source.h"
#include "samples.h"

using namespace llmctl;

namespace {

template <class T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}
void put_text(std::string& out, std::string_view text) {
  put(out, static_cast<uint64_t>(text.size()));
  out += text;
}

// tokenizer.ggml.*: bytes, three merged tokens, one control token.
std::string small_gguf() {
  std::string out = "GGUF";
  put<uint32_t>(out, 3);
  put<uint64_t>(out, 0);
  put<uint64_t>(out, 5);
  for (const auto& [key, text] :
       {std::pair("tokenizer.ggml.model", "gpt2"), std::pair("tokenizer.ggml.pre", "qwen2")}) {
    put_text(out, key);
    put<uint32_t>(out, 8);
    put_text(out, text);
  }
  const std::vector<std::string> tokens = {"a", "b", "c", "ab", "abc", "<end>"};
  put_text(out, "tokenizer.ggml.tokens");
  put<uint32_t>(out, 9);
  put<uint32_t>(out, 8);
  put<uint64_t>(out, tokens.size());
  for (const std::string& token : tokens) put_text(out, token);
  put_text(out, "tokenizer.ggml.token_type");
  put<uint32_t>(out, 9);
  put<uint32_t>(out, 5);
  put<uint64_t>(out, tokens.size());
  for (size_t i = 0; i < tokens.size(); ++i) put<int32_t>(out, i + 1 < tokens.size() ? 1 : 3);
  put_text(out, "tokenizer.ggml.merges");
  put<uint32_t>(out, 9);
  put<uint32_t>(out, 8);
  put<uint64_t>(out, 2);
  put_text(out, "a b");
  put_text(out, "ab c");
  return out;
}

std::string field_of(int number, const std::string& bytes) {
  return std::string(1, static_cast<char>(number << 3 | 2)) + static_cast<char>(bytes.size()) + bytes;
}
std::string piece_of(const std::string& text, float score, char type) {
  std::string out = field_of(1, text) + '\x15';
  put(out, score);
  return field_of(1, out + '\x18' + type);
}

std::string small_model(char kind) {
  std::string out =
      piece_of("<unk>", 0, 2) + piece_of("<s>", 0, 3) + piece_of("</s>", 0, 3) + piece_of("<x>", 0, 4);
  const std::vector<std::string> pieces = {
      "\xE2\x96\x81"
      "ab",
      "ab",
      "\xE2\x96\x81",
      "a",
      "b",
      "c"};
  for (size_t i = 0; i < pieces.size(); ++i) out += piece_of(pieces[i], -1.0f - static_cast<float>(i), 1);
  return out + field_of(2, std::string("\x18") + kind);
}

// Reads what the bytes say and uses it; anything but a clear refusal is a failure.
template <class Read>
bool survives(const Read& read, const std::string& bytes) {
  try {
    const TokenizerSource source = read(bytes);
    const Tokenizer tokenizer = Tokenizer::from_json(source.tokenizer, source.config);
    tokenizer.decode(tokenizer.encode("ab c <x>abc", {.parse_special = true}), false);
    tokenizer.encode_with_offsets(" ab\xFF");
    return true;
  } catch (const Error& e) {
    const bool refused = e.code == Code::input || e.code == Code::unsupported;
    if (!refused) FAIL_CHECK(e.what());
    return false;
  }
}

}  // namespace

TEST_CASE("small models of sentencepiece", "[tokenizer]") {
  for (const char kind : {'\x01', '\x02'}) {
    const TokenizerSource source = source_of_sentencepiece(small_model(kind));
    const Tokenizer tokenizer = Tokenizer::from_json(source.tokenizer, source.config);
    CHECK(tokenizer.encode("  ab  c ") == std::vector<int32_t>{4, 6, 9});  // spaces joined and trimmed
    CHECK(tokenizer.encode("ab<x>ab") == std::vector<int32_t>{4, 3, 5});   // none in front after <x>
    CHECK(tokenizer.encode("<s>") == std::vector<int32_t>{6, 0});          // control pieces are no text
    CHECK(tokenizer.decode({4, 6, 9}) == "ab c");
    CHECK(tokenizer.bos() == 1);
    CHECK(tokenizer.encode(" \xE2\x96\x81 ").empty());  // nothing but spaces is nothing
  }
  CHECK(code_of([] { source_of_sentencepiece(small_model('\x03')); }) == Code::unsupported);
  CHECK(code_of([] { source_of_sentencepiece(""); }) == Code::input);
}

TEST_CASE("mutated vocabulary files never crash", "[tokenizer][fuzz]") {
  const char* wanted = std::getenv("LLMCTL_FUZZ_SECONDS");
  const auto seconds = std::chrono::duration<double>(wanted ? std::atof(wanted) : 20.0);
  const auto start = std::chrono::steady_clock::now();
  ScratchFolder folder;
  const auto gguf = [&](const std::string& bytes) {
    write_file(folder.path / "x.gguf", bytes, true);
    return source_of_gguf(folder.path / "x.gguf");
  };
  const auto tiktoken = [](const std::string& bytes) { return source_of_tiktoken(bytes, "gpt2"); };
  const std::string seeds[] = {small_gguf(), small_model('\x01'), small_model('\x02'),
                               "YQ== 0\nYg== 1\nYWI= 2\n"};
  const TokenizerSource whole = gguf(seeds[0]);
  CHECK(Tokenizer::from_json(whole.tokenizer, whole.config).encode("abcab") == std::vector<int32_t>{4, 3});
  uint64_t rounds = 0, accepted = 0;
  while (std::chrono::steady_clock::now() - start < seconds) {
    CounterRandom random(8, rounds++);
    const uint64_t kind = random.below(4);
    std::string bytes = seeds[kind];
    for (uint64_t n = 1 + random.below(4); n > 0; --n)
      bytes[random.below(bytes.size())] = static_cast<char>(random.bits());
    if (random.below(3) == 0) bytes.resize(random.below(bytes.size()));
    accepted += kind == 0   ? survives(gguf, bytes)
                : kind == 3 ? survives(tiktoken, bytes)
                            : survives(source_of_sentencepiece, bytes);
    std::string map(64, '\0');  // a charsmap of random units
    for (char& c : map) c = static_cast<char>(random.bits());
    const uint32_t size = 4 * static_cast<uint32_t>(random.below(16));
    std::memcpy(map.data(), &size, 4);
    if (random.below(2)) map.back() = '\0';
    try {
      const Charsmap charsmap(map);
      for (const char* text : {"abc", "\xE2\x82\xAC", "\xFF\xFE"}) charsmap.find(text, rounds % 2);
    } catch (const Error& e) {
      CHECK(e.code == Code::input);
    }
  }
  WARN(rounds << " mutated files, " << accepted << " of them still valid");
  CHECK(rounds > 10);
}
