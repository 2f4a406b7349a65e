// SPDX-License-Identifier: Apache-2.0
#include "core/engine/paged_engine.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/basic.h"
#include "kernels/cross_entropy.h"

namespace llmctl {
namespace {

constexpr int64_t kDefaultKvBytes = int64_t{2} << 30;

int64_t pages_of(int64_t tokens) { return (tokens + kn::kPageTokens - 1) / kn::kPageTokens; }

}  // namespace

PagedEngine::PagedEngine(Model& model, const EngineOptions& options, const kn::Exec& exec)
    : model_(model),
      exec_(exec),
      options_(options),
      context_(options.context > 0 ? std::min(options.context, model.context()) : model.context()),
      logit_rows_(std::max<int64_t>(options.max_batch, 16)),
      kv_arena_("key-value pages", exec.device),
      arena_("engine step", exec.device),
      inputs_(Arena::staged("engine inputs", exec.device)),
      results_(Arena::staged("engine results", exec.device)) {
  check(options_.max_batch >= 1 && options_.max_batch <= 4096, Code::usage, "[engine] max_batch ", options_.max_batch,
        " is not in 1..4096");
  options_.step_tokens = std::max<int64_t>(options_.step_tokens, options_.max_batch);
  const DecoderConfig& c = model.spec().config;
  const DType dtype = model.spec().compute;
  const int64_t page = kn::kv_page_elements(dtype, c.head_dim);
  const int64_t page_bytes = 2 * c.layers * c.kv_heads * page * kn::size_of(dtype);
  const int64_t full = options_.max_batch * pages_of(context_);
  page_count_ = options_.kv_bytes > 0 ? options_.kv_bytes / page_bytes : std::min(full, kDefaultKvBytes / page_bytes);
  check(page_count_ >= pages_of(context_), Code::memory, "[engine] ", page_count_ * page_bytes,
        " bytes of key-value memory hold ", page_count_ * kn::kPageTokens, " tokens, the context is ", context_,
        ": lower --context or raise --kv-memory");
  for (bool planned : {false, true}) {
    cache_.clear();
    for (int64_t l = 0; l < c.layers; ++l)
      cache_.push_back({kv_arena_.take(dtype, {page_count_, c.kv_heads, page}),
                        kv_arena_.take(dtype, {page_count_, c.kv_heads, page})});
    if (!planned) kv_arena_.allocate();
  }
  kn::Exec dry = exec;
  dry.plan = true;
  place(dry);
  arena_.allocate();
  inputs_.allocate();
  if (exec.device.kind != kn::DeviceKind::cpu) results_.allocate();
  place(exec);
  for (int64_t p = page_count_; p-- > 0;) free_pages_.push_back(static_cast<int32_t>(p));
  stats_.kv_pages_total = page_count_;
  stats_.bytes = kv_arena_.size() + arena_.size() + inputs_.size();
  thread_ = std::thread([this] { loop(); });
}

PagedEngine::~PagedEngine() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

// Takes the step's buffers; in a planning pass also runs the widest step dry.
void PagedEngine::place(const kn::Exec& exec) {
  const DecoderConfig& c = model_.spec().config;
  const int64_t t = options_.step_tokens, s = options_.max_batch;
  arena_.release(0), inputs_.release(0), results_.release(0);
  StepBuffers& b = buffers_;
  b.ids = inputs_.take(DType::i32, {t});
  b.positions = inputs_.take(DType::i32, {t});
  b.slots = inputs_.take(DType::i64, {t});
  b.sequences = inputs_.take(DType::i32, {s, 4});
  b.page_table = inputs_.take(DType::i32, {s * pages_of(context_)});
  b.index = inputs_.take(DType::i32, {logit_rows_});
  b.targets = inputs_.take(DType::i32, {logit_rows_});
  b.hidden = arena_.take(model_.spec().compute, {t, c.hidden});
  b.loss = arena_.take(DType::f32, {logit_rows_});
  b.lse = arena_.take(DType::f32, {logit_rows_});
  b.picked = arena_.take(model_.spec().compute, {logit_rows_, c.hidden});
  b.logits = arena_.take(DType::f32, {logit_rows_, c.padded_vocab()});
  b.logits_out = b.logits, b.lse_out = b.lse;
  if (exec.device.kind != kn::DeviceKind::cpu) {
    b.logits_out = results_.take(DType::f32, {logit_rows_, c.padded_vocab()});
    b.lse_out = results_.take(DType::f32, {logit_rows_});
  }
  if (!exec.plan) return;
  Ctx ctx{.exec = exec, .arena = arena_};
  TokenBatch batch{.tokens = t, .ids = b.ids, .positions = b.positions, .slots = b.slots, .sequences = b.sequences,
                   .page_table = b.page_table, .groups = {{{0, t}, {0, s}}}, .cache = &cache_};
  model_.decoder().forward(ctx, batch, b.hidden);
  model_.head().logits(ctx, b.picked, b.logits);
}

int64_t PagedEngine::pages_for(const GenerationRequest& r) const {
  const auto prompt = static_cast<int64_t>(r.prompt.size());
  return pages_of(std::min(context_, prompt + std::max(r.sampling.max_tokens, 0)));
}

uint64_t PagedEngine::submit(GenerationRequest request) {
  check(!request.prompt.empty(), Code::input, "[engine] the prompt is empty");
  const auto length = static_cast<int64_t>(request.prompt.size());
  check(length <= context_, Code::input, "[engine] the prompt has ", length, " tokens, the context is ", context_);
  for (int32_t id : request.prompt)
    check(id >= 0 && id < vocab_size(), Code::input, "[engine] token id ", id, " is outside the vocabulary of ",
          vocab_size());
  auto s = std::make_unique<Sequence>();
  s->tokens = request.prompt;
  for (int32_t id : request.prompt) ++s->counts.prompt[id];
  s->request = std::move(request);
  std::lock_guard lock(mutex_);
  s->id = next_id_++;
  const uint64_t id = s->id;
  ++stats_.requests;
  waiting_.push_back(std::move(s));
  wake_.notify_one();
  return id;
}

void PagedEngine::cancel(uint64_t id) {
  std::lock_guard lock(mutex_);
  cancelled_.push_back(id);
  wake_.notify_one();
}

EngineStats PagedEngine::stats() const {
  std::lock_guard lock(mutex_);
  EngineStats s = stats_;
  s.waiting = static_cast<int>(waiting_.size());
  s.running = static_cast<int>(running_.size());
  s.kv_pages_used = page_count_ - static_cast<int64_t>(free_pages_.size());
  return s;
}

void PagedEngine::loop() {
  kn::set_denormals_are_zero();
  kn::use_device(exec_);
  while (true) {
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return stop_ || !waiting_.empty() || !running_.empty() || !cancelled_.empty(); });
      if (stop_) break;
    }
    admit();
    try {
      step();
    } catch (const std::exception& e) {
      // Nothing of one step is shared with the next: its requests fail, the engine goes on.
      for (auto& s : running_)
        if (!s->done) finish(*s, {.finish = Finish::failed, .error = e.what()});
    }
    retire();
  }
  for (auto& s : running_)
    if (!s->done) finish(*s, {.finish = Finish::cancelled});
  for (auto& s : waiting_) finish(*s, {.finish = Finish::cancelled});
}

// Cancellations, then waiting requests in order while a place and all their pages are free: an
// admitted request never has to stop for memory.
void PagedEngine::admit() {
  std::vector<std::unique_ptr<Sequence>> dropped;
  {
    std::lock_guard lock(mutex_);
    for (uint64_t id : cancelled_) {
      for (auto& s : running_)
        if (s->id == id && !s->done) finish(*s, {.finish = Finish::cancelled});
      for (auto it = waiting_.begin(); it != waiting_.end(); ++it)
        if ((*it)->id == id) {
          dropped.push_back(std::move(*it));
          waiting_.erase(it);
          break;
        }
    }
    cancelled_.clear();
    while (!waiting_.empty() && running_.size() < static_cast<size_t>(options_.max_batch)) {
      const int64_t pages = pages_for(waiting_.front()->request);
      if (pages > static_cast<int64_t>(free_pages_.size())) break;
      auto s = std::move(waiting_.front());
      waiting_.pop_front();
      for (int64_t i = 0; i < pages; ++i) {
        s->pages.push_back(free_pages_.back());
        free_pages_.pop_back();
      }
      running_.push_back(std::move(s));
    }
  }
  for (auto& s : dropped) finish(*s, {.finish = Finish::cancelled});
}

void PagedEngine::retire() {
  std::lock_guard lock(mutex_);
  for (auto& s : running_)
    if (s->done) free_pages_.insert(free_pages_.end(), s->pages.begin(), s->pages.end());
  std::erase_if(running_, [](const auto& s) { return s->done; });
}

void PagedEngine::finish(Sequence& s, TokenOut out) {
  s.done = true;
  s.request.sink(out);
}

// The next `count` tokens of s that are not yet in the cache become rows of the step.
void PagedEngine::add_rows(Sequence& s, int64_t count, std::vector<WantedRow>& wanted) {
  const int64_t first = batch_rows_;
  int32_t* row = buffers_.sequences.as<int32_t>() + 4 * batch_sequences_++;
  row[0] = static_cast<int32_t>(first);
  row[1] = static_cast<int32_t>(count);
  row[2] = static_cast<int32_t>(s.cached + count);
  row[3] = static_cast<int32_t>(batch_pages_);
  const int64_t pages = pages_of(s.cached + count);
  std::memcpy(buffers_.page_table.as<int32_t>() + batch_pages_, s.pages.data(), static_cast<size_t>(pages) * 4);
  batch_pages_ += pages;
  const auto prompt = static_cast<int64_t>(s.request.prompt.size());
  for (int64_t i = 0; i < count; ++i) {
    const int64_t position = s.cached + i, r = first + i;
    buffers_.ids.as<int32_t>()[r] = s.tokens[static_cast<size_t>(position)];
    buffers_.positions.as<int32_t>()[r] = static_cast<int32_t>(position);
    buffers_.slots.as<int64_t>()[r] =
        s.pages[static_cast<size_t>(position / kn::kPageTokens)] * kn::kPageTokens + position % kn::kPageTokens;
    const bool last = position + 1 == static_cast<int64_t>(s.tokens.size());
    if (last || (s.request.sampling.prompt_logprobs && position + 1 < prompt))
      wanted.push_back({&s, static_cast<int32_t>(r), position + 1, last});
  }
  s.cached += count;
  batch_rows_ += count;
}

void PagedEngine::step() {
  kn::wait(exec_);  // the inputs of a step without results may still be on their way
  batch_rows_ = batch_sequences_ = batch_pages_ = 0;
  std::vector<WantedRow> wanted;
  // Decodes first, so that each running request advances; prompts share what is left.
  for (auto& s : running_)
    if (!s->done && s->cached + 1 == static_cast<int64_t>(s->tokens.size()) && s->cached > 0) add_rows(*s, 1, wanted);
  for (auto& s : running_) {
    const int64_t left = static_cast<int64_t>(s->tokens.size()) - s->cached;
    const int64_t room = options_.step_tokens - batch_rows_;
    if (s->done || left <= 0 || room <= 0) continue;
    add_rows(*s, std::min(left, room), wanted);
  }
  if (batch_rows_ == 0) return;
  const int64_t t = batch_rows_;
  batch_ = TokenBatch{.tokens = t,
                      .ids = inputs_.sent(elements_of(buffers_.ids, {0, t})),
                      .positions = inputs_.sent(elements_of(buffers_.positions, {0, t})),
                      .slots = inputs_.sent(elements_of(buffers_.slots, {0, t})),
                      .sequences = inputs_.sent(rows_of(buffers_.sequences, 0, batch_sequences_)),
                      .page_table = inputs_.sent(elements_of(buffers_.page_table, {0, batch_pages_})),
                      .groups = {{{0, t}, {0, batch_sequences_}}},
                      .cache = &cache_};
  inputs_.send(exec_);
  Ctx ctx{.exec = exec_, .arena = arena_};
  model_.decoder().forward(ctx, batch_, rows_of(buffers_.hidden, 0, t));
  emit(wanted, batch_);
  std::lock_guard lock(mutex_);
  ++stats_.steps;
}

void PagedEngine::emit(const std::vector<WantedRow>& wanted, const TokenBatch& batch) {
  Ctx ctx{.exec = exec_, .arena = arena_};
  const View hidden = rows_of(buffers_.hidden, 0, batch.tokens);
  for (size_t begin = 0; begin < wanted.size(); begin += static_cast<size_t>(logit_rows_)) {
    const auto n = std::min<int64_t>(logit_rows_, static_cast<int64_t>(wanted.size() - begin));
    bool logprobs = false;
    for (int64_t i = 0; i < n; ++i) {
      const WantedRow& w = wanted[begin + static_cast<size_t>(i)];
      buffers_.index.as<int32_t>()[i] = w.row;
      buffers_.targets.as<int32_t>()[i] = -1;
      logprobs |= w.sequence->request.sampling.top_logprobs >= 0 || !w.sample;
    }
    inputs_.send(exec_);  // the rest of it is there already and stays the same
    const View picked = rows_of(buffers_.picked, 0, n), logits = rows_of(buffers_.logits, 0, n);
    ctx.run(kn::GatherRows{.x = hidden, .index = inputs_.sent(elements_of(buffers_.index, {0, n})), .y = picked});
    model_.head().logits(ctx, picked, logits);
    if (logprobs)
      ctx.run(kn::CrossEntropyFwd{.logits = logits, .vocab = vocab_size(), .leaves = model_.head().leaves,
                                  .targets = inputs_.sent(elements_of(buffers_.targets, {0, n})),
                                  .loss = elements_of(buffers_.loss, {0, n}),
                                  .lse = elements_of(buffers_.lse, {0, n})});
    kn::download(exec_, buffers_.logits_out.data, logits.data, logits.bytes());
    if (logprobs) kn::download(exec_, buffers_.lse_out.data, buffers_.lse.data, n * 4);
    for (int64_t i = 0; i < n; ++i)
      emit_row(wanted[begin + static_cast<size_t>(i)], buffers_.logits_out.as<float>() + i * logits.cols(),
               buffers_.lse_out.as<float>()[i]);
  }
}

void PagedEngine::describe(const WantedRow& w, const float* logits, float lse, int32_t id, TokenOut& out) const {
  const int top = w.sequence->request.sampling.top_logprobs;
  if (top < 0 && w.sample) return;
  out.logprob = logits[id] - lse;
  if (top <= 0) return;
  std::vector<int32_t> ids(static_cast<size_t>(vocab_size()));
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i);
  const size_t n = std::min(ids.size(), static_cast<size_t>(top));
  std::partial_sort(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(n), ids.end(), [&](int32_t a, int32_t b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  });
  for (size_t i = 0; i < n; ++i) out.top.push_back({ids[i], logits[ids[i]] - lse});
}

void PagedEngine::emit_row(const WantedRow& w, float* logits, float lse) {
  Sequence& s = *w.sequence;
  const Sampling& sampling = s.request.sampling;
  if (s.done) return;
  if (!w.sample) {  // the prompt's own token at this position
    TokenOut out{.id = s.tokens[static_cast<size_t>(w.position)], .from_prompt = true};
    describe(w, logits, lse, out.id, out);
    if (!s.request.sink(out)) finish(s, {.finish = Finish::stop});
    return;
  }
  const auto prompt = static_cast<int64_t>(s.request.prompt.size());
  const int64_t made = static_cast<int64_t>(s.tokens.size()) - prompt;
  if (made == 0) {
    std::lock_guard lock(mutex_);
    stats_.prompt_tokens += static_cast<uint64_t>(prompt);
  }
  if (sampling.max_tokens <= 0 || static_cast<int64_t>(s.tokens.size()) >= context_)
    return finish(s, {.finish = Finish::length});
  std::vector<float> row(logits, logits + vocab_size());
  std::vector<int32_t> stops = s.request.stop_ids;
  if (!sampling.ignore_eos) stops.insert(stops.end(), model_.spec().eos_ids.begin(), model_.spec().eos_ids.end());
  if (sampling.ignore_eos || made < sampling.min_tokens)
    for (int32_t id : model_.spec().eos_ids) row[static_cast<size_t>(id)] = -INFINITY;
  if (made < sampling.min_tokens)
    for (int32_t id : s.request.stop_ids)
      if (id >= 0 && id < vocab_size()) row[static_cast<size_t>(id)] = -INFINITY;
  const int32_t id = sampler_.draw(row, sampling, s.counts, w.position);
  if (id < 0) return finish(s, {.finish = Finish::failed, .error = "the model's logits are not finite"});
  TokenOut out{.id = id};
  describe(w, logits, lse, id, out);
  {
    std::lock_guard lock(mutex_);
    ++stats_.generated_tokens;
  }
  if (std::find(stops.begin(), stops.end(), id) != stops.end()) {
    out.finish = Finish::stop;
    return finish(s, out);
  }
  s.tokens.push_back(id);
  ++s.counts.generated[id];
  if (made + 1 >= sampling.max_tokens || static_cast<int64_t>(s.tokens.size()) >= context_) {
    out.finish = Finish::length;
    return finish(s, out);
  }
  if (!s.request.sink(out)) finish(s, {.finish = Finish::stop});
}

std::unique_ptr<GenerationEngine> make_engine(Model& model, const EngineOptions& options, const kn::Exec& exec) {
  return std::make_unique<PagedEngine>(model, options, exec);
}

}  // namespace llmctl
