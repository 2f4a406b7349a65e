// SPDX-License-Identifier: Apache-2.0
#include "serve/metrics.h"

#include <algorithm>
#include <cstdio>

namespace llmctl::serve {
namespace {

std::string number(double x) {
  char text[40];
  std::snprintf(text, sizeof text, "%.9g", x);
  return text;
}

// A label value with what the format wants escaped.
std::string label(const std::string& value) {
  std::string out;
  for (const char c : value) {
    if (c == '\\' || c == '"') out += '\\';
    out += c == '\n' ? ' ' : c;
  }
  return out;
}

void head(std::string& out, const std::string& name, const char* type, const char* help) {
  out += "# HELP " + name + ' ' + help + "\n# TYPE " + name + ' ' + type + '\n';
}

void write(std::string& out, const std::string& name, const char* help, const Histogram& h) {
  head(out, name, "histogram", help);
  uint64_t below = 0;
  for (size_t i = 0; i < Histogram::kBounds.size(); ++i) {
    below += h.counts[i];
    out += name + "_bucket{le=\"" + number(Histogram::kBounds[i]) + "\"} " + std::to_string(below) + '\n';
  }
  out += name + "_bucket{le=\"+Inf\"} " + std::to_string(h.count) + '\n';
  out += name + "_sum " + number(h.sum) + '\n';
  out += name + "_count " + std::to_string(h.count) + '\n';
}

}  // namespace

void Histogram::add(double seconds) {
  const auto at = std::lower_bound(kBounds.begin(), kBounds.end(), seconds);
  ++counts[static_cast<size_t>(at - kBounds.begin())];
  sum += seconds;
  ++count;
}

void Metrics::answered(const std::string& route, int status) {
  const std::lock_guard lock(mutex_);
  ++requests_[{route, status}];
}

void Metrics::first_token(double seconds) {
  const std::lock_guard lock(mutex_);
  first_token_.add(seconds);
}

void Metrics::next_token(double seconds) {
  const std::lock_guard lock(mutex_);
  next_token_.add(seconds);
}

void Metrics::finished(double seconds) {
  const std::lock_guard lock(mutex_);
  finished_.add(seconds);
}

void Metrics::tokens(uint64_t prompt, uint64_t generated) {
  const std::lock_guard lock(mutex_);
  prompt_tokens_ += prompt;
  generated_tokens_ += generated;
}

std::string Metrics::render(const std::vector<std::pair<std::string, EngineStats>>& engines) const {
  std::string out;
  const auto gauge = [&](const char* name, const char* type, const char* help, auto value) {
    head(out, name, type, help);
    for (const auto& [model, stats] : engines)
      out += std::string(name) + "{model=\"" + label(model) + "\"} " + std::to_string(value(stats)) + '\n';
  };
  using Stats = const EngineStats&;
  gauge("llmctl_requests_running", "gauge", "requests in the batch", [](Stats s) { return s.running; });
  gauge("llmctl_requests_waiting", "gauge", "requests in the queue", [](Stats s) { return s.waiting; });
  gauge("llmctl_kv_pages_used", "gauge", "KV cache pages in use", [](Stats s) { return s.kv_pages_used; });
  gauge("llmctl_kv_pages_total", "gauge", "KV cache pages", [](Stats s) { return s.kv_pages_total; });
  gauge("llmctl_engine_steps_total", "counter", "batched steps", [](Stats s) { return s.steps; });
  gauge("llmctl_cached_tokens_total", "counter", "prompt tokens found in the cache",
        [](Stats s) { return s.cached_tokens; });
  const std::lock_guard lock(mutex_);
  head(out, "llmctl_http_requests_total", "counter", "answered requests; 499: the client left first");
  for (const auto& [key, count] : requests_)
    out += "llmctl_http_requests_total{route=\"" + label(key.first) + "\",status=\"" +
           std::to_string(key.second) + "\"} " + std::to_string(count) + '\n';
  head(out, "llmctl_prompt_tokens_total", "counter", "prompt tokens of answered choices");
  out += "llmctl_prompt_tokens_total " + std::to_string(prompt_tokens_) + '\n';
  head(out, "llmctl_generated_tokens_total", "counter", "generated tokens");
  out += "llmctl_generated_tokens_total " + std::to_string(generated_tokens_) + '\n';
  write(out, "llmctl_time_to_first_token_seconds", "from the request to its first token", first_token_);
  write(out, "llmctl_inter_token_latency_seconds", "between two tokens of a choice", next_token_);
  write(out, "llmctl_e2e_request_latency_seconds", "from the request to a choice's end", finished_);
  return out;
}

}  // namespace llmctl::serve
