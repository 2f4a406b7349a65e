// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer/tokenizer.h"

#include "data/packed/counter_random.h"
#include "data/tokenizer/bpe.h"
#include "data/tokenizer/byte_level.h"
#include "samples.h"

using namespace llmctl;
using Ids = std::vector<int32_t>;

namespace {

// SentencePiece-like: Prepend and Replace, byte fallback, as Llama 2's files are.
Json spm_json() {
  Json json = parse_json(R"({
    "added_tokens": [{"id": 0, "content": "<unk>", "special": true}, {"id": 1, "content": "<s>", "special": true}],
    "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"},
      {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]},
    "pre_tokenizer": null,
    "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
      {"Sequence": {"id": "A", "type_id": 0}}], "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
    "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
      {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
    "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true,
      "vocab": {"<unk>": 0, "<s>": 1}, "merges": [["\u2581", "a"], "b c"]}
  })",
                         "spm");
  Json& vocab = json["model"]["vocab"];
  char name[8];
  for (int b = 0; b < 256; ++b) {
    std::snprintf(name, sizeof name, "<0x%02X>", b);
    vocab[name] = 2 + b;
  }
  int id = 258;
  for (const char* token : {"\xE2\x96\x81", "a", "b", "c",
                            "\xE2\x96\x81"
                            "a",
                            "bc"})
    vocab[token] = id++;
  return json;
}

}  // namespace

TEST_CASE("byte-level text comes back exactly, whatever the bytes", "[tokenizer]") {
  CounterRandom random(1, 1);
  for (const char* pattern : {"gpt2", "cl100k", "o200k", "llama3", "qwen2", "none"}) {
    const Tokenizer tokenizer = sample_tokenizer(pattern);
    for (int round = 0; round < 60; ++round) {
      std::string text;
      const uint64_t size = random.below(200), kind = random.below(3);
      for (uint64_t i = 0; i < size; ++i)
        text += kind == 0   ? static_cast<char>(random.below(256))
                : kind == 1 ? sample_text()[random.below(100)]
                            : "\xF0\x9F\x98\x80 \xC3\xA9'S\n\t1"[random.below(13)];
      INFO("pattern " << pattern << " round " << round);
      CHECK(tokenizer.decode(tokenizer.encode(text), false) == text);
    }
    for (const char* edge : {"", " ", "\xF5\xFF\xFE", "\xE2\x82",
                             "a\xE2\x82"
                             "b",
                             "<|endoftext|>"})
      CHECK(tokenizer.decode(tokenizer.encode(edge), false) == edge);
  }
}

TEST_CASE("ids of a trained vocabulary are those of Hugging Face tokenizers", "[tokenizer]") {
  // Made with tokenizers 0.23.3: BpeTrainer on sample_text(), 297 tokens, and the special ones after.
  const Tokenizer gpt2 = sample_tokenizer("gpt2", 300);
  const Tokenizer qwen2 = sample_tokenizer("qwen2", 300);
  const std::string text = "The other fox's caf\xC3\xA9 12 x 345\n\n  they're!";
  CHECK(gpt2.encode(text) == Ids{259, 273, 275, 264, 6,   82,  220, 289, 127, 102, 220, 280,
                                 220, 87,  272, 281, 198, 198, 220, 258, 88,  279, 0});
  CHECK(qwen2.encode(text) == Ids{259, 272, 274, 264, 6,  82, 220, 286, 127, 102, 220, 16,  17,
                                  220, 87,  220, 18,  19, 20, 198, 198, 220, 258, 88,  279, 0});
  CHECK(gpt2.id_of("<|im_end|>") == 299);
}

TEST_CASE("special tokens are text unless asked for", "[tokenizer]") {
  const Tokenizer tokenizer = sample_tokenizer();
  const int32_t end = *tokenizer.id_of("<|im_end|>");
  const std::string text = "fox<|im_end|>dog";
  const Ids plain = tokenizer.encode(text);
  CHECK(std::find(plain.begin(), plain.end(), end) == plain.end());
  CHECK(tokenizer.decode(plain) == text);
  const Ids parsed = tokenizer.encode(text, {.parse_special = true});
  CHECK(std::count(parsed.begin(), parsed.end(), end) == 1);
  CHECK(tokenizer.decode(parsed) == "foxdog");
  CHECK(tokenizer.decode(parsed, false) == text);
  CHECK(tokenizer.is_special(end));
  CHECK(tokenizer.eos() == tokenizer.id_of("<|endoftext|>"));
}

TEST_CASE("SentencePiece-type BPE with byte fallback", "[tokenizer]") {
  const Tokenizer tokenizer = Tokenizer::from_json(spm_json(), Json());
  CHECK(tokenizer.encode("abc a") == Ids{1, 262, 263, 262});
  CHECK(tokenizer.encode("abc a", {.add_special = false}) == Ids{262, 263, 262});
  CHECK(tokenizer.encode("\xC3\xA9") == Ids{1, 258, 2 + 0xC3, 2 + 0xA9});
  CHECK(tokenizer.encode("") == Ids{1});
  CHECK(tokenizer.decode({1, 262, 263, 262}) == "abc a");
  CHECK(tokenizer.decode({258, 2 + 0xC3, 2 + 0xA9, 262}) == "\xC3\xA9 a");
  CHECK(tokenizer.piece(262) == " a");
  for (const char* text : {"x  y", " leading", "tail ", "\xFF\xC3", "new\nline"})
    CHECK(tokenizer.decode(tokenizer.encode(text)) == text);
}

TEST_CASE("added tokens match leftmost and longest, and take spaces when told", "[tokenizer]") {
  Json json = spm_json();
  json["added_tokens"].push_back({{"id", 264}, {"content", "ab"}, {"normalized", false}});
  json["added_tokens"].push_back({{"id", 265}, {"content", "abb"}, {"normalized", false}});
  json["added_tokens"].push_back(
      {{"id", 266}, {"content", "<m>"}, {"normalized", false}, {"lstrip", true}, {"rstrip", true}});
  const Tokenizer tokenizer = Tokenizer::from_json(json, Json());
  const EncodeOptions bare{.add_special = false};
  CHECK(tokenizer.encode("abbab", bare) == Ids{265, 264});
  CHECK(tokenizer.encode("a \t<m> \xC2\xA0"
                         "a",
                         bare) == Ids{262, 266, 262});
}

TEST_CASE("short pieces by scan and long ones by heap merge as the definition says", "[tokenizer]") {
  CounterRandom random(3, 1);
  for (int round = 0; round < 200; ++round) {
    MergeTable table(60);  // pairs of 0..3 and of what they make
    for (int32_t rank = 0; rank < 40; ++rank)
      table.set(static_cast<int32_t>(random.below(8)), static_cast<int32_t>(random.below(8)),
                {rank, 4 + static_cast<int32_t>(random.below(8))});
    Ids symbols(random.below(120));
    for (int32_t& s : symbols) s = static_cast<int32_t>(random.below(4));
    Ids plain = symbols;  // join the lowest rank, leftmost, until there is none
    for (;;) {
      size_t best = plain.size();
      Merge merge{INT32_MAX, 0};
      for (size_t i = 0; i + 1 < plain.size(); ++i) {
        const Merge m = table.find(plain[i], plain[i + 1]);
        if (m.rank >= 0 && m.rank < merge.rank) merge = m, best = i;
      }
      if (best == plain.size()) break;
      plain[best] = merge.id;
      plain.erase(plain.begin() + static_cast<ptrdiff_t>(best) + 1);
    }
    merge_symbols(table, symbols);
    CHECK(symbols == plain);
  }
}

TEST_CASE("a piece of a megabyte does not take quadratic time", "[tokenizer]") {
  const Tokenizer tokenizer = sample_tokenizer("none");
  std::string text;
  while (text.size() < (1 << 20)) text += sample_text();
  const Ids ids = tokenizer.encode(text);
  CHECK(ids.size() < text.size());
  CHECK(tokenizer.decode(ids) == text);
}

TEST_CASE("a stream of ids never cuts a code point", "[tokenizer]") {
  const Tokenizer tokenizer = sample_tokenizer("qwen2", 259);  // bytes
  const std::string text = "a\xC3\xA9\xE6\x97\xA5\xF0\x9F\x98\x80z";
  StreamDecoder stream(tokenizer);
  std::string seen;
  for (const int32_t id : tokenizer.encode(text)) {
    const std::string more = stream.push(id);
    CHECK((more.empty() || (static_cast<uint8_t>(more[0]) & 0xC0) != 0x80));
    seen += more;
  }
  CHECK(seen + stream.finish() == text);
  StreamDecoder cut(tokenizer);
  const Ids tail = tokenizer.encode("x\xE6\x97");
  seen.clear();
  for (const int32_t id : tail) seen += cut.push(id);
  CHECK(seen == "x");
  CHECK(cut.finish() == "\xEF\xBF\xBD");
  const Tokenizer spm = Tokenizer::from_json(spm_json(), Json());
  StreamDecoder words(spm);
  std::string text_of_words;
  for (const int32_t id : {1, 262, 262}) text_of_words += words.push(id);
  CHECK(text_of_words + words.finish() == "a a");
}

TEST_CASE("a folder is written and read again", "[tokenizer]") {
  ScratchFolder folder;
  const Tokenizer one = sample_tokenizer();
  one.save(folder.path / "tok");
  const Tokenizer two = Tokenizer::load(folder.path / "tok");
  const Tokenizer three = Tokenizer::load(folder.path / "tok" / "tokenizer.json");
  CHECK(one.digest() == two.digest());
  CHECK(two.chat_template() == three.chat_template());
  CHECK(one.encode(sample_text()) == two.encode(sample_text()));
  CHECK(one.vocab_size() == two.vocab_size());
  CHECK(code_of([&] { Tokenizer::load(folder.path / "none"); }) == Code::input);
  CHECK(code_of([&] { Tokenizer::load(folder.path / "x.gguf"); }) == Code::input);
}

TEST_CASE("stories260K's tokenizer", "[tokenizer]") {
  const fs::path folder = shared_file("models/stories260K");
  if (folder.empty()) return;
  const Tokenizer tokenizer = Tokenizer::load(folder);
  CHECK(tokenizer.vocab_size() == 512);
  CHECK(tokenizer.encode("") == Ids{1});
  CHECK(tokenizer.encode("Once upon a time") == Ids{1, 403, 407, 261, 378});
  const Json expected = read_json(folder / "expected_greedy.json");
  CHECK(tokenizer.decode(expected.at("ids").get<Ids>()).substr(0, 16) == "Once upon a time");
}

TEST_CASE("GPT-2's vocabulary against its published test strings", "[tokenizer]") {
  const fs::path vocab = shared_file("data/tokenizers/gpt2-encoder.json");
  const fs::path inputs = shared_file("data/tokenizers/ggml-vocab-gpt-2.gguf.inp");
  if (vocab.empty() || inputs.empty()) return;
  const TokenizerFiles files = trained_files({""}, 256, "gpt2");
  Json json = files.tokenizer;
  json["model"]["vocab"] = read_json(vocab);
  json["model"]["merges"] = Json::array();
  ByteReader merges(vocab.parent_path() / "gpt2-vocab.bpe");
  std::string line;
  merges.line(line);  // "#version: 0.2"
  while (merges.line(line))
    if (!line.empty()) json["model"]["merges"].push_back(line);
  json["added_tokens"] = Json::array({{{"id", 50256}, {"content", "<|endoftext|>"}, {"special", true}}});
  const Tokenizer tokenizer = Tokenizer::from_json(json, Json());
  const std::string all = read_file(inputs), mark = "\n__ggml_vocab_test__\n";
  ByteReader expected(inputs.parent_path() / "ggml-vocab-gpt-2.gguf.out");
  int compared = 0;
  for (size_t at = 0, hit; (hit = all.find(mark, at)) != std::string::npos; at = hit + mark.size()) {
    if (!expected.line(line)) break;
    Ids ids;
    std::istringstream numbers(line);
    for (int32_t id; numbers >> id;) ids.push_back(id);
    CHECK(tokenizer.encode(all.substr(at, hit - at)) == ids);
    ++compared;
  }
  CHECK(compared >= 40);
}
