// SPDX-License-Identifier: Apache-2.0
// `llmctl demo`: the whole life of a small model on text that we write ourselves. Every stage is a
// verb run as a person would run it; the commands are printed and can be typed again.
#include <fmt/format.h>

#include <chrono>

#include "cmd/child.h"
#include "cmd/commands.h"
#include "core/train/report.h"
#include "data/samples/corpus.h"

namespace llmctl {
namespace {

using Clock = std::chrono::steady_clock;

struct DemoOptions {
  std::string folder = "demo";
  int64_t steps = 2000, problems = 1000;
  bool force = false;
};

// What the demo trains on and how. Arithmetic takes the larger share: it is the part that can be
// checked exactly.
constexpr uint64_t kSeed = 20261123, kHeldOutSeed = 1;
constexpr CorpusMix kMix = {.story = 6, .arithmetic = 62, .passage = 4, .chat = 28};
constexpr uint64_t kTrainBytes = 8 << 20, kHeldOutBytes = 160 << 10, kCalibrationBytes = 200 << 10;
constexpr int64_t kRequests = 6000;

std::string train_config(int64_t steps) {
  const Json config = {
      {"model",
       {{"architectures", {"LlamaForCausalLM"}},
        {"hidden_size", 192},
        {"intermediate_size", 512},
        {"num_hidden_layers", 5},
        {"num_attention_heads", 6},
        {"num_key_value_heads", 6},
        {"head_dim", 32},
        {"vocab_size", 1024},
        {"max_position_embeddings", 512},
        {"rms_norm_eps", 1e-5},
        {"initializer_range", 0.06},
        {"tie_word_embeddings", true}}},
      {"data", {{"train", "packed/train"}, {"validation", "packed/held-out"}, {"tokenizer", "tokenizer"}}},
      {"unit", {{"sequences", 4}, {"seq_len", 256}}},
      {"batch", {{"units", 1}}},
      {"optimizer", {{"learning_rate", 2e-3}, {"beta2", 0.98}, {"weight_decay", 0.1}}},
      {"schedule",
       {{"kind", "wsd"},
        {"steps", steps},
        {"warmup_steps", 50},
        {"decay_steps", steps / 2},
        {"min_ratio", 0.02}}},
      {"numerics", {{"compute", "bf16"}}},
      {"checkpoint", {{"every", 0}, {"keep", 2}}},
      {"seed", 1}};
  return config.dump(2) + "\n";
}

class Demo {
 public:
  Demo(const DemoOptions& o, Common& common) : o_(o), common_(common), folder_(fs::absolute(o.folder)) {}

  int run() {
    check(o_.force || !fs::exists(folder_) || fs::is_empty(folder_), Code::usage, "[demo] ", o_.folder,
          " is there already: give --force or another --dir");
    if (fs::exists(folder_)) fs::remove_all(folder_);
    fs::create_directories(folder_);
    const auto start = Clock::now();
    write_corpus();
    verb("tokenizer", {"tokenize", "train", "corpus/train.jsonl", "--vocab-size", "1024", "--pattern",
                       "qwen2", "--output", "tokenizer"});
    verb("pack",
         {"tokenize", "pack", "corpus/train.jsonl", "--tokenizer", "tokenizer", "--output", "packed/train"});
    verb("pack held-out", {"tokenize", "pack", "corpus/held-out.jsonl", "--tokenizer", "tokenizer",
                           "--output", "packed/held-out"});
    write_file(folder_ / "train.json", train_config(o_.steps), true);
    const Json trained = verb("train", {"train", "train.json", "--run", "run"});
    model_ = (fs::path(trained.at("checkpoint").get<std::string>()) / "model").generic_string();
    evaluate();
    quantize();
    moderation();
    serve();
    reproduce();
    finish(std::chrono::duration<double>(Clock::now() - start).count());
    return 0;
  }

 private:
  void write_corpus() {
    const auto start = Clock::now();
    fs::create_directories(folder_ / "corpus");
    const auto write = [&](const char* name, uint64_t seed, uint64_t bytes) {
      OutputFile out(folder_ / "corpus" / name, true);
      generate_corpus({.seed = seed, .bytes = bytes, .mix = kMix},
                      [&](const CorpusDocument& d) { out.write(json_text(d.to_json()) + "\n"); });
      out.commit();
    };
    common_.log.line("$ # writing corpus/*.jsonl from a seed");
    write("train.jsonl", kSeed, kTrainBytes);
    write("held-out.jsonl", kHeldOutSeed, kHeldOutBytes);
    write("calibration.jsonl", kSeed + 1, kCalibrationBytes);
    OutputFile requests(folder_ / "corpus" / "requests.jsonl", true);
    for (int64_t i = 0; i < kRequests; ++i)
      requests.write(json_text(labelled_request(kSeed, static_cast<uint64_t>(i)).to_json()) + "\n");
    requests.commit();
    add_stage("corpus", start, {{"bytes", kTrainBytes}});
  }

  void add_stage(const std::string& name, Clock::time_point start, Json result) {
    Json stage = {{"name", name}, {"seconds", std::chrono::duration<double>(Clock::now() - start).count()}};
    for (const auto& [key, value] : result.items()) stage[key] = value;
    stages_.push_back(stage);
  }

  std::vector<std::string> with_common(std::vector<std::string> words) const {
    if (common_.threads > 0) words.insert(words.end(), {"--threads", std::to_string(common_.threads)});
    if (!common_.isa.empty()) words.insert(words.end(), {"--isa", common_.isa});
    return words;
  }

  // Runs one verb, shows it, and returns its JSON result. A verb that fails ends the demo.
  Json verb(const std::string& name, const std::vector<std::string>& words) {
    stop_if_interrupted("demo");
    const auto start = Clock::now();
    std::string shown = "$ llmctl";
    for (const std::string& w : words)
      shown += " " + (w.find_first_of(" ?") == std::string::npos ? w : "'" + w + "'");
    common_.log.line(shown);
    std::vector<std::string> all = with_common(words);
    all.push_back("--json");
    if (common_.quiet) all.push_back("--quiet");
    Child child(all, folder_.string());
    std::string line, last;
    while (child.line(line)) last = line;
    const int status = child.wait();
    check(status == 0, status == 130 ? Code::interrupted : Code::bug, "[demo] `", shown.substr(2),
          "` ended with ", status);
    Json result = parse_json(last, name);
    add_stage(name, start, result);
    return result;
  }

  void evaluate() {
    const Json text = verb("held-out text", {"evaluate", model_, "--tasks", "perplexity,bits_per_byte",
                                             "--input", "corpus/held-out.jsonl", "--context", "256"});
    bits_per_byte_ = text.at("results").at("bits_per_byte").at("bits_per_byte").get<double>();
    arithmetic_ = verb("arithmetic",
                       {"evaluate", model_, "--tasks", "arithmetic", "--limit", std::to_string(o_.problems)})
                      .at("results")
                      .at("arithmetic");
  }

  void quantize() {
    const std::string held_out = "corpus/held-out.jsonl";
    quantized_.push_back(verb("quantize int8", {"quantize", model_, "model-int8", "--format", "int8",
                                                "--group-size", "64", "--evaluation", held_out}));
    quantized_.push_back(
        verb("quantize int4", {"quantize", model_, "model-int4", "--format", "int4", "--calibration",
                               "corpus/calibration.jsonl", "--evaluation", held_out}));
  }

  void moderation() {
    write_file(folder_ / "moderation.json",
               Json{{"data", {"corpus/requests.jsonl"}}, {"output", "moderation"}}.dump(2) + "\n", true);
    moderation_ = verb("moderation", {"moderate", "train", "moderation.json"});
  }

  void serve() {
    stop_if_interrupted("demo");
    const auto start = Clock::now();
    common_.log.line("$ llmctl serve " + model_ + " --port 0 --moderation moderation --model-name demo");
    Child server(with_common({"serve", model_, "--port", "0", "--moderation", "moderation", "--model-name",
                              "demo", "--quiet"}),
                 folder_.string());
    std::string line;
    check(server.line(line), Code::bug, "[demo] the server did not start");
    const size_t colon = line.rfind(':');
    const int port = std::atoi(line.c_str() + colon + 1);
    question_ = "What is 12 x 7?";
    const Json body = {{"model", "demo"},
                       {"stream", true},
                       {"temperature", 0},
                       {"max_tokens", 120},
                       {"messages", {{{"role", "user"}, {"content", question_}}}}};
    common_.log.line("> " + question_);
    const int status = post_json(port, "/v1/chat/completions", body.dump(),
                                 [&](const std::string& event) { stream(event); });
    check(status == 200, Code::bug, "[demo] the server answered with status ", status);
    common_.log.line(answer_);
    server.terminate();
    server.wait();
    add_stage("serve", start, {{"question", question_}, {"answer", answer_}});
  }

  void stream(const std::string& event) {
    if (!event.starts_with("data: {")) return;
    const Json chunk = parse_json(event.substr(6), "event");
    for (const Json& choice : chunk.value("choices", Json::array()))
      if (choice.contains("delta") && choice["delta"].contains("content") &&
          choice["delta"]["content"].is_string())
        answer_ += choice["delta"]["content"].get<std::string>();
  }

  void reproduce() {
    const Json r = verb("reproduce", {"reproduce", "run", "--steps", "0:10"});
    check(r.at("equal") == true, Code::bug, "[demo] the run was not reproduced: ", r.dump());
  }

  ReportTable arithmetic_table() const {
    ReportTable t{"Held-out arithmetic",
                  {"kind", "problems", "exact"},
                  {},
                  "Greedy answers to problems that no training document holds."};
    for (const auto& [kind, row] : arithmetic_.at("kinds").items())
      t.rows.push_back(
          {kind, row.at("n").dump(), fmt::format("{:.1f} %", 100 * row.at("exact").get<double>())});
    return t;
  }

  ReportTable quantized_table() const {
    ReportTable t{
        "Quantised", {"format", "bits per weight", "bytes", "perplexity before", "after", "change"}, {}, ""};
    for (const Json& q : quantized_) {
      const double before = q.at("perplexity_before").get<double>(),
                   after = q.at("perplexity_after").get<double>();
      t.rows.push_back({q.at("format").get<std::string>(),
                        fmt::format("{:.2f}", q.at("bits_per_weight").get<double>()), q.at("bytes").dump(),
                        fmt::format("{:.4f}", before), fmt::format("{:.4f}", after),
                        fmt::format("{:+.2f} %", 100 * (after / before - 1))});
    }
    return t;
  }

  void finish(double seconds) {
    ReportInput report = report_of_run(folder_ / "run");
    report.title = "llmctl demo";
    report.subtitle = "from text to a served model on this machine";
    report.tables = {arithmetic_table(), quantized_table()};
    report.samples = {{question_, answer_}};
    write_file(folder_ / "report.html", render_report(report), true);
    const double exact = arithmetic_.at("exact").get<double>();
    const std::string where = o_.folder + "/" + model_;
    const std::string text = fmt::format(
        "made:  {} (Hugging Face folder), tokenizer, int8 and int4 copies, a moderation classifier, in "
        "{:.0f} s\n"
        "good:  {:.1f} % of {} held-out problems exact, {:.3f} bits per byte on held-out text, moderation "
        "ECE {:.3f}\n"
        "same:  ten training steps replayed bit for bit (llmctl reproduce {}/run)\n"
        "look:  {}/report.html\n"
        "next:  llmctl chat {}   or   llmctl serve {} --moderation {}/moderation",
        where, seconds, 100 * exact, arithmetic_.at("n").dump(), bits_per_byte_,
        moderation_.value("ece", 0.0), o_.folder, o_.folder, where, where, o_.folder);
    print_result(
        common_,
        {{"stages", stages_}, {"seconds", seconds}, {"model", where}, {"report", o_.folder + "/report.html"}},
        text);
  }

  const DemoOptions& o_;
  Common& common_;
  fs::path folder_;
  std::string model_, question_, answer_;
  Json stages_ = Json::array(), arithmetic_, moderation_;
  std::vector<Json> quantized_;
  double bits_per_byte_ = 0;
};

}  // namespace

void add_demo(CLI::App& app, Common& common) {
  auto o = std::make_shared<DemoOptions>();
  app.add_option("--dir", o->folder, "folder to make");
  app.add_option("--steps", o->steps, "training steps")->check(CLI::Range(20, 1 << 20));
  app.add_option("--problems", o->problems, "held-out problems asked")->check(CLI::Range(1, 20000));
  app.add_flag("--force", o->force, "replace the folder");
  examples(app, {"llmctl demo", "llmctl demo --dir /tmp/demo --steps 200 --force"});
  on_run(app, common, [o, &common] { return Demo(*o, common).run(); });
}

}  // namespace llmctl
