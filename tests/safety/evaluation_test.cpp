// SPDX-License-Identifier: Apache-2.0
#include "safety/evaluation.h"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <cmath>

#include "core/models/score.h"
#include "data/packed/shard.h"
#include "tests/scratch.h"

using namespace llmctl;

namespace {

struct Machine {
  kn::ThreadPool pool{2};
  kn::Exec exec;
  Log log{true};
  Machine() {
    exec.isa = kn::supported_isas().front();
    exec.pool = &pool;
  }
};

// One token per byte, as byte-level BPE without merges has it, and one special token.
Json byte_tokenizer() {
  Json vocab = Json::object();
  int32_t next = 0;
  for (int b = 33; b < 127; ++b) vocab[std::string(1, static_cast<char>(b))] = next++;
  vocab["\xc4\xa0"] = next++;  // space
  vocab["\xc4\x8a"] = next++;  // line feed
  return {{"version", "1.0"},
          {"added_tokens", {{{"id", next}, {"content", "<|endoftext|>"}, {"special", true}, {"normalized", false},
                             {"single_word", false}, {"lstrip", false}, {"rstrip", false}}}},
          {"normalizer", nullptr},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}, {"trim_offsets", true}}},
          {"post_processor", nullptr},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", Json::array()}}}};
}

// A model of 97 ids and context 32; all logits 0 when uniform.
void save_model(const fs::path& folder, bool uniform, const kn::Exec& exec) {
  fs::create_directories(folder);
  const Json hf = {{"architectures", {"LlamaForCausalLM"}}, {"model_type", "llama"}, {"hidden_size", 64},
                   {"intermediate_size", 96}, {"num_hidden_layers", 2}, {"num_attention_heads", 4},
                   {"num_key_value_heads", 2}, {"vocab_size", 97}, {"max_position_embeddings", 32},
                   {"rms_norm_eps", 1e-5}, {"rope_theta", 10000.0}, {"hidden_act", "silu"},
                   {"tie_word_embeddings", false}};
  Model model(make_model_spec(hf, DType::f32, "test"), Purpose::training, 32, exec);
  model.allocate();
  model.initialise(11);
  WeightState& head = model.parameters().at("head");
  for (int64_t i = 0; i < head.master.size(); ++i) head.master.as<float>()[i] *= uniform ? 0.0f : 30.0f;
  model.parameters().refresh(exec);
  model.save(folder);
  write_file(folder / "tokenizer.json", byte_tokenizer().dump(), true);
  write_file(folder / "tokenizer_config.json", R"({"eos_token": "<|endoftext|>"})", true);
}

std::string long_text(size_t bytes) {
  std::string text;
  for (int i = 0; text.size() < bytes; ++i) text += "line " + std::to_string(i * 7919 % 1000) + " of it\n";
  text.resize(bytes);
  return text;
}

EvaluationOptions options_for(const fs::path& input) {
  EvaluationOptions options;
  options.inputs = {input.string()};
  return options;
}

}  // namespace

TEST_CASE("a model that knows nothing has the perplexity of its vocabulary") {
  Machine machine;
  ScratchFolder folder;
  save_model(folder / "model", true, machine.exec);
  write_file(folder / "text.txt", long_text(1000), true);
  EvaluationSubject subject(folder / "model", options_for(folder / "text.txt"), machine.exec, machine.log);
  const Json p = evaluate_perplexity(subject), b = evaluate_bits_per_byte(subject);
  CHECK(p["perplexity"].get<double>() == Approx(97.0).epsilon(1e-5));
  CHECK(p["n"] == 999);
  CHECK(p["tokens"] == 999);
  CHECK(p["unpredicted_bytes"] == 1);
  CHECK(p["first_token"] == "not predicted");
  CHECK(p["context"] == 32);
  CHECK(p["stride"] == 32);
  CHECK(p["windows"] == 32);
  CHECK(b["n"] == 999);
  CHECK(b["bits_per_byte"].get<double>() == Approx(std::log2(97.0)).epsilon(1e-5));
  CHECK(b["stderr"].get<double>() < 1e-6);
}

TEST_CASE("every token is predicted once, whatever the stride, as the scorer does it") {
  Machine machine;
  ScratchFolder folder;
  save_model(folder / "model", false, machine.exec);
  const auto model = load_model(folder / "model", Purpose::inference, 0, machine.exec);
  const Tokenizer tokenizer = Tokenizer::load(folder / "model");
  write_file(folder / "text.txt", long_text(150), true);
  const EvaluationTexts texts = read_evaluation_texts({(folder / "text.txt").string()}, "text", tokenizer, 97, 0);
  for (const int64_t stride : {1, 5, 20, 32}) {
    const TextScore score = score_texts(*model, texts, tokenizer, 20, std::min<int64_t>(stride, 20), machine.exec);
    CHECK(score.tokens == 149);
    CHECK(score.bytes == 149);
    // Position by position: the longest context the windows allow.
    Scorer scorer(*model, 20, machine.exec);
    double nats = 0;
    const std::vector<int32_t>& ids = texts.documents[0].ids;
    for (int64_t target = 1, begin = 0, end = 20; target < 150; ++target) {
      if (target > end) begin += score.stride, end += score.stride;
      const int64_t n = target - begin;
      std::vector<int32_t> targets(static_cast<size_t>(n), -1);
      targets.back() = ids[static_cast<size_t>(target)];
      scorer.batch().clear();
      scorer.batch().add_row({ids.data() + begin, static_cast<size_t>(n)}, targets, {});
      nats += static_cast<double>(scorer.losses().as<float>()[n - 1]);
    }
    CHECK(score.nats == Approx(nats).epsilon(1e-12));
  }
  CHECK(code_of([&] { score_texts(*model, texts, tokenizer, 33, 0, machine.exec); }) == Code::usage);
  CHECK(code_of([&] { score_texts(*model, texts, tokenizer, 16, 17, machine.exec); }) == Code::usage);
}

TEST_CASE("text, JSON lines and packed shards of the same documents score the same") {
  Machine machine;
  ScratchFolder folder;
  save_model(folder / "model", false, machine.exec);
  const auto model = load_model(folder / "model", Purpose::inference, 0, machine.exec);
  const Tokenizer tokenizer = Tokenizer::load(folder / "model");
  const std::string text = long_text(77);
  write_file(folder / "text.txt", text, true);
  write_file(folder / "text.jsonl", Json{{"body", text}}.dump() + "\n", true);
  {
    fs::create_directories(folder / "packed");
    ShardWriter writer(folder / "packed" / "shard-00000", tokenizer.vocab_size(), false);
    std::vector<int32_t> ids = tokenizer.encode(text);
    ids.push_back(*tokenizer.eos());
    writer.add(ids);
    writer.commit();
  }
  std::vector<double> nats;
  for (const char* name : {"text.txt", "text.jsonl", "packed"}) {
    const EvaluationTexts texts = read_evaluation_texts({(folder / name).string()}, "body", tokenizer, 97, 0);
    const TextScore score = score_texts(*model, texts, tokenizer, 0, 0, machine.exec);
    CHECK(score.tokens == 76);
    CHECK(score.bytes == 76);
    nats.push_back(score.nats);
  }
  CHECK(nats[0] == nats[1]);
  CHECK(nats[0] == nats[2]);
}

TEST_CASE("documents are limited, empty ones skipped, foreign ids refused") {
  Machine machine;
  ScratchFolder folder;
  save_model(folder / "model", true, machine.exec);
  const Tokenizer tokenizer = Tokenizer::load(folder / "model");
  write_file(folder / "d.jsonl", "{\"text\": \"\"}\n{\"text\": \"abc\"}\n{\"text\": \"d\"}\n{\"text\": \"ef\"}\n{\"text\": \"ghi\"}\n", true);
  const std::string input = (folder / "d.jsonl").string();
  CHECK(read_evaluation_texts({input}, "text", tokenizer, 97, 0).documents.size() == 3);
  CHECK(read_evaluation_texts({input}, "text", tokenizer, 97, 2).documents.size() == 2);
  CHECK(code_of([&] { read_evaluation_texts({input}, "text", tokenizer, 20, 0); }) == Code::input);
  write_file(folder / "empty.txt", "", true);
  CHECK(code_of([&] { read_evaluation_texts({(folder / "empty.txt").string()}, "text", tokenizer, 97, 0); }) == Code::input);
  EvaluationSubject none(folder / "model", {}, machine.exec, machine.log);
  CHECK(code_of([&] { evaluate_perplexity(none); }) == Code::usage);
  CHECK(code_of([&] { evaluation_task("arc"); }) == Code::usage);
}

TEST_CASE("rows of texts are bounded in length and number") {
  EvaluationTexts texts;
  texts.documents.push_back({.ids = std::vector<int32_t>(10, 1)});
  texts.documents.push_back({.ids = std::vector<int32_t>(3, 2)});
  CHECK(rows_of_texts(texts, 4, 100).size() == 4);
  const auto rows = rows_of_texts(texts, 4, 9);
  REQUIRE(rows.size() == 3);
  CHECK(rows[2].size() == 1);
}

TEST_CASE("an untrained model solves no arithmetic, and the table says so by kind") {
  Machine machine;
  ScratchFolder folder;
  save_model(folder / "model", false, machine.exec);
  EvaluationOptions options;
  options.limit = 12;
  EvaluationSubject subject(folder / "model", options, machine.exec, machine.log);
  const Json result = evaluate_arithmetic(subject);
  CHECK(result["n"] == 12);
  CHECK(result["exact"] == 0.0);
  CHECK(result["kinds"]["addition"]["n"] == 4);
  CHECK(result["kinds"]["multiplication"]["n"] == 4);
}
