// SPDX-License-Identifier: Apache-2.0
// `llmctl serve`: models behind the OpenAI-compatible HTTP server.
#include <algorithm>
#include <chrono>
#include <ctime>

#include "cmd/build_id.h"
#include "cmd/commands.h"
#include "core/base/digest.h"
#include "core/engine/load.h"
#include "safety/moderation.h"
#include "serve/server.h"

namespace llmctl {
namespace {

struct ServeOptions {
  std::vector<std::string> models, names;
  std::string moderation, api_key, host = "127.0.0.1", cors_origin = "*";
  int port = 8080, max_batch = 32, max_waiting = 1024, http_threads = 2;
  int64_t context = 0;
  uint64_t kv_memory = 0, max_body = 8 << 20;
  PanelCacheOptions cache;
  double drain_seconds = 30, idle_seconds = 75, slow_seconds = 30;
};

std::string name_of_folder(const fs::path& folder) {
  const fs::path absolute = fs::absolute(folder).lexically_normal();
  return (absolute.has_filename() ? absolute : absolute.parent_path()).filename().string();
}

// The classifier of the safety room as the server's guard.
class ClassifierGuard final : public serve::Guard {
 public:
  explicit ClassifierGuard(const fs::path& folder)
      : classifier_(load_classifier(folder)), name_(name_of_folder(folder)) {}
  std::string model() const override { return name_; }
  serve::ModerationResult check(std::string_view text) const override {
    const ModerationVerdict verdict = moderate(classifier_, text);
    serve::ModerationResult result;
    result.flagged = verdict.flagged;
    for (const ModerationScore& s : verdict.scores)
      if (s.known) result.categories.push_back({s.category, s.score, s.flagged});
    return result;
  }

 private:
  TextClassifier classifier_;
  std::string name_;
};

// What makes the tokens: weights, config, and the numerics contract.
std::string fingerprint_of(const fs::path& folder, const PanelCacheOptions& cache, const kn::Exec& exec) {
  Digest sum;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (entry.path().extension() != ".safetensors" && name != "config.json" && name != "tokenizer.json")
      continue;
    const Digest file = model_file_digest(entry.path(), cache, exec);
    sum += digest_of(name + file.hex());
  }
  return "fp_n" + std::to_string(kNumericsVersion) + '_' + sum.hex().substr(0, 16);
}

serve::ServedModel load_one(const ServeOptions& o, const fs::path& folder, const std::string& name,
                            const kn::Exec& exec) {
  EngineOptions engine;
  engine.context = o.context;
  engine.max_batch = o.max_batch;
  engine.kv_bytes = static_cast<int64_t>(o.kv_memory);
  engine.cache = o.cache;
  serve::ServedModel model;
  model.name = name;
  model.tokenizer = std::make_shared<const Tokenizer>(Tokenizer::load(folder));
  model.fingerprint = fingerprint_of(folder, o.cache, exec);  // before the engine, whose exec is from then on
  model.engine = make_engine(folder, engine, exec);
  check(model.tokenizer->vocab_size() <= model.engine->vocab_size(), Code::input, "[serve] ", folder.string(),
        ": its tokenizer has ", model.tokenizer->vocab_size(), " ids but its model only ",
        model.engine->vocab_size(), ", use the tokenizer it was trained with");
  model.created = static_cast<int64_t>(std::time(nullptr));
  return model;
}

std::vector<std::string> served_names(const ServeOptions& o) {
  check(o.names.empty() || o.names.size() == o.models.size(), Code::usage, "[serve] --model-name is given ",
        o.names.size(), " times for ", o.models.size(), " models, give one for each or none");
  std::vector<std::string> names = o.names;
  if (names.empty())
    for (const auto& folder : o.models) names.push_back(name_of_folder(folder));
  for (size_t i = 0; i < names.size(); ++i)
    check(std::count(names.begin(), names.end(), names[i]) == 1, Code::usage,
          "[serve] two models are named '", names[i], "', tell them apart with --model-name");
  return names;
}

serve::ServerOptions server_options(const ServeOptions& o) {
  const auto ms = [](double s) { return std::chrono::milliseconds(static_cast<int64_t>(s * 1000)); };
  serve::ServerOptions options;
  options.http.host = o.host;
  options.http.port = o.port;
  options.http.threads = o.http_threads;
  options.http.limits.body_bytes = o.max_body;
  options.http.limits.idle_time = ms(o.idle_seconds);
  options.http.limits.header_time = std::min(options.http.limits.header_time, ms(o.slow_seconds));
  options.http.limits.body_time = options.http.limits.write_time = ms(o.slow_seconds);
  options.api_key = o.api_key;
  options.cors_origin = o.cors_origin;
  options.version = kVersion;
  options.max_waiting = o.max_waiting;
  options.drain_time = ms(o.drain_seconds);
  return options;
}

int serve_models(const ServeOptions& o, Common& common) {
  const auto names = served_names(o);
  // A thread pool runs one engine at a time, so each model has its own.
  std::vector<std::unique_ptr<Runtime>> runtimes;
  const auto load = [&] {
    serve::Loaded loaded;
    for (size_t i = 0; i < names.size(); ++i) {
      stop_if_interrupted("serve");
      common.log.line("loading " + o.models[i]);
      runtimes.push_back(std::make_unique<Runtime>(common, Devices::any));
      loaded.models.push_back(load_one(o, o.models[i], names[i], runtimes.back()->exec));
    }
    if (!o.moderation.empty()) loaded.guard = std::make_shared<ClassifierGuard>(o.moderation);
    return loaded;
  };
  serve::run_server(
      server_options(o), load, [](const std::string& url) { print_text("listening on " + url + "\n"); },
      [&] {
        if (!interrupted()) return false;
        common.log.line("finishing running requests; a second signal stops at once");
        return true;
      });
  return 0;
}

}  // namespace

void add_serve(CLI::App& app, Common& common) {
  auto o = std::make_shared<ServeOptions>();
  app.add_option("model", o->models, "model folders")->required();
  app.add_option("--host", o->host, "address to listen on; 0.0.0.0 is every interface");
  app.add_option("--port", o->port, "port to listen on; 0 picks a free one")->check(CLI::Range(0, 65535));
  app.add_option("--model-name", o->names, "name clients use, once per model; the folder's name otherwise");
  app.add_option("--api-key", o->api_key, "key that every route but /health, /metrics and /version asks for");
  app.add_option("--moderation", o->moderation, "classifier folder for /v1/moderations");
  app.add_option("--context", o->context, "longest sequence in tokens; 0: the model's")
      ->check(at_least(0));
  app.add_option("--max-batch", o->max_batch, "requests decoded together")->check(CLI::Range(1, 4096));
  app.add_option("--max-waiting", o->max_waiting, "requests queued before 503")
      ->check(CLI::Range(1, 1 << 20));
  app.add_option("--kv-memory", o->kv_memory,
                 "memory for keys and values, 512MB or 2GB; 0: by batch and context")
      ->transform(CLI::AsSizeValue(false));
  app.add_option("--max-body", o->max_body, "largest request body, 8MB for example")
      ->transform(CLI::AsSizeValue(false));
  app.add_option("--cors-origin", o->cors_origin, "origin that browsers may call from; '' for none");
  app.add_option("--http-threads", o->http_threads, "threads for connections")->check(CLI::Range(1, 256));
  app.add_option("--drain-seconds", o->drain_seconds, "how long SIGTERM waits for running requests")
      ->check(CLI::Range(0.0, 86400.0));
  app.add_option("--idle-seconds", o->idle_seconds, "how long an idle connection is kept")
      ->check(CLI::Range(0.1, 86400.0));
  app.add_option("--slow-seconds", o->slow_seconds, "time for a slow client to send a body or take a reply")
      ->check(CLI::Range(0.1, 86400.0));
  add_cache_flags(app, common, o->cache);
  examples(app, {"llmctl serve out/model --port 8080",
                 "llmctl serve out/model --moderation out/classifier --api-key \"$KEY\" --host 0.0.0.0"});
  on_run(app, common, [o, &common] { return serve_models(*o, common); });
}

}  // namespace llmctl
