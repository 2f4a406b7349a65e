// SPDX-License-Identifier: Apache-2.0
// Vocabularies that are no tokenizer.json: GGUF, .tiktoken, GPT-2's pair, sentencepiece.
#include "data/packed/counter_random.h"
#include "data/text/base64.h"
#include "data/tokenizer/gguf_pre.h"
#include "data/tokenizer/tokenizer_source.h"
#include "samples.h"

using namespace llmctl;
using Ids = std::vector<int32_t>;

namespace {

// The published strings and the ids of the reference, one line each.
void check_strings(const fs::path& vocabulary, const Tokenizer& tokenizer) {
  const fs::path folder = vocabulary.parent_path();
  const std::string name = vocabulary.filename().string();
  std::string all = read_file(folder / (name + ".inp"));
  const std::string mark = "\n__ggml_vocab_test__\n";
  ByteReader expected(folder / (name + ".out"));
  std::string line;
  int strings = 0;
  for (size_t at = 0; at < all.size(); ++strings) {
    const size_t end = std::min(all.find(mark, at), all.size());
    const std::string text = all.substr(at, end - at);
    at = end + mark.size();
    REQUIRE(expected.line(line));
    Ids ids;
    std::istringstream numbers(line);
    for (int32_t id; numbers >> id;) ids.push_back(id);
    INFO(name << ", string " << strings << ": " << text);
    CHECK(tokenizer.encode(text, {.add_special = false}) == ids);
  }
  CHECK(strings == 46);
}

TokenizerSource tiktoken_of_bytes(const std::string& name) {
  std::string content;
  for (int b = 0; b < 256; ++b)
    content += to_base64(std::string(1, static_cast<char>(b))) + " " + std::to_string(b) + "\n";
  int rank = 256;
  for (const char* token : {"ab", "bc", "abc", "xyz"})
    content += to_base64(token) + " " + std::to_string(rank++) + "\n";
  return source_of_tiktoken(content, name);
}

}  // namespace

TEST_CASE("GGUF vocabularies against their published test strings", "[tokenizer]") {
  for (const char* name : {"deepseek-llm", "gpt-2", "llama-spm", "starcoder"}) {
    const fs::path path = shared_file("data/tokenizers/ggml-vocab-" + std::string(name) + ".gguf");
    if (path.empty()) return;
    const Tokenizer tokenizer = Tokenizer::load(path);
    check_strings(path, tokenizer);
    ScratchFolder folder;  // and the same after a conversion
    tokenizer.save(folder.path);
    check_strings(path, Tokenizer::load(folder.path));
  }
}

TEST_CASE("names of GGUF's pre-tokenizers are in the table or refused", "[tokenizer]") {
  CHECK(gguf_pre("llama-bpe").ignore_merges);
  CHECK(gguf_pre("deepseek-llm").patterns.size() == 6);
  CHECK(code_of([] { gguf_pre("default"); }) == Code::unsupported);
  CHECK(code_of([] { gguf_pre("nobody"); }) == Code::unsupported);
}

TEST_CASE("a .tiktoken file is ranked by results and named by its content or its name", "[tokenizer]") {
  CHECK(code_of([] { tiktoken_of_bytes("mine"); }) == Code::unsupported);
  TokenizerSource source = tiktoken_of_bytes("r50k_base");
  source.tokenizer["added_tokens"][0]["id"] = 300;
  const Tokenizer tokenizer = Tokenizer::from_json(source.tokenizer, source.config);
  CHECK(tokenizer.encode("abc") == Ids{258});
  CHECK(tokenizer.encode("xabc") == Ids{'x', 258});  // ab, then ab + c
  CHECK(tokenizer.encode("xyz") == Ids{259});        // whole, though no two tokens make it
  CHECK(tokenizer.encode("xyzx") == Ids{'x', 'y', 'z', 'x'});
  CHECK(tokenizer.encode("<|endoftext|>", {.parse_special = true}) == Ids{300});
  CHECK(tokenizer.encode("<|endoftext|>").size() > 1);
  for (const char* broken :
       {"", "!!!! 0\n", "YQ== x\n", "YQ==\n", "YQ== 9999999\n", "YQ== 0\nYQ== 1\n", "YQ== 0\nYg== 0\n"})
    CHECK(code_of([&] { source_of_tiktoken(broken, "gpt2"); }) == Code::input);
}

TEST_CASE("cl100k, o200k and GPT-2 from their published files", "[tokenizer]") {
  const fs::path folder = shared_file("data/tokenizers/cl100k_base.tiktoken").parent_path();
  if (folder.empty()) return;
  // Ids of tiktoken 0.14.
  const std::string text = "Hello, w\xC3\xB6rld! 12345 isn't\n\n  x \xE6\x97\xA5\xE6\x9C\xAC \n ";
  const Tokenizer cl100k = Tokenizer::load(folder / "cl100k_base.tiktoken");
  CHECK(cl100k.encode(text) ==
        Ids{9906, 11, 289, 9603, 509, 0, 220, 4513, 1774, 4536, 956, 271, 220, 865, 76502, 22656, 720, 220});
  CHECK(cl100k.id_of("<|endofprompt|>") == 100276);
  const Tokenizer o200k = Tokenizer::load(folder / "o200k_base.tiktoken");
  CHECK(o200k.encode(text) ==
        Ids{13225, 11, 286, 2877, 582, 0, 220, 7633, 2548, 12471, 279, 220, 1215, 17428, 793, 220});
  const Tokenizer gpt2 = Tokenizer::load(folder / "gpt2-encoder.json");
  CHECK(gpt2.encode(text) == Ids{15496, 11,   266,   30570, 335, 0,     17031, 2231, 2125, 470, 628,
                                 220,   2124, 10545, 245,   98,  17312, 105,   220,  198,  220});
  for (const Tokenizer& t : {cl100k, o200k, gpt2}) {
    CHECK(t.decode(t.encode(text)) == text);
    CHECK(t.decode(t.encode("\xFF\xE6\x97 \xF5")) == "\xFF\xE6\x97 \xF5");
  }
}
