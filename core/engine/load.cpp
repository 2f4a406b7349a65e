// SPDX-License-Identifier: Apache-2.0
#include "core/engine/load.h"

#include <exception>
#include <future>
#include <mutex>

#include "core/engine/paged_engine.h"

namespace llmctl {
namespace {

// An engine that owns the model it runs.
class LoadedEngine final : public GenerationEngine {
 public:
  LoadedEngine(std::unique_ptr<Model> model, const EngineOptions& options, const kn::Exec& exec)
      : model_(std::move(model)), engine_(*model_, options, exec) {}
  uint64_t submit(GenerationRequest request) override { return engine_.submit(std::move(request)); }
  void cancel(uint64_t id) override { engine_.cancel(id); }
  EngineStats stats() const override { return engine_.stats(); }
  int64_t context() const override { return engine_.context(); }
  int64_t vocab_size() const override { return engine_.vocab_size(); }
  std::vector<int32_t> eos_ids() const override { return engine_.eos_ids(); }

 private:
  std::unique_ptr<Model> model_;
  PagedEngine engine_;
};

}  // namespace

std::unique_ptr<GenerationEngine> make_engine(const fs::path& model, const EngineOptions& options,
                                              const kn::Exec& exec) {
  return std::make_unique<LoadedEngine>(load_model(model, Purpose::inference, options.context, exec, options.cache),
                                        options, exec);
}

Completion complete(GenerationEngine& engine, GenerationRequest request, const std::function<bool(int32_t)>& each) {
  Completion done;
  std::promise<void> ended;
  std::exception_ptr thrown;  // by each: the caller's own error, not the engine's
  request.sink = [&](const TokenOut& t) {
    const bool stopping = t.finish == Finish::stop && t.id >= 0;
    bool go_on = true;
    if (t.id >= 0 && !t.from_prompt && !stopping) {
      done.ids.push_back(t.id);
      try {
        if (each && !thrown) go_on = each(t.id);
      } catch (...) {
        thrown = std::current_exception();
      }
      go_on = go_on && !thrown;
    }
    if (t.finish != Finish::none) {
      done.finish = t.finish;
      done.error = t.error;
      ended.set_value();
    }
    return go_on;
  };
  engine.submit(std::move(request));
  ended.get_future().wait();
  if (thrown) std::rethrow_exception(thrown);
  return done;
}

}  // namespace llmctl
