// SPDX-License-Identifier: Apache-2.0
#include "core/models/architecture.h"

#include "core/base/config.h"

namespace llmctl {

const std::vector<Architecture>& architectures() {
  static const std::vector<Architecture> all = {llama_architecture(), gpt2_architecture(), mixtral_architecture(),
                                                qwen3_architecture(), qwen3_moe_architecture(), qwen2_moe_architecture()};
  return all;
}

const Architecture& architecture_of(const Json& hf, const std::string& who) {
  check(hf.is_object(), Code::input, who, ": not a JSON object");
  std::string name, known;
  if (auto it = hf.find("architectures"); it != hf.end() && it->is_array() && !it->empty() && (*it)[0].is_string())
    name = (*it)[0].get<std::string>();
  const std::string type = config_string_or(hf, "model_type", "", who);
  for (const Architecture& a : architectures()) {
    if (name == a.name || (name.empty() && type == a.model_type)) return a;
    known += (known.empty() ? "" : ", ") + std::string(a.name);
  }
  check(!name.empty() || !type.empty(), Code::input, who, ": neither architectures nor model_type is given");
  throw Error(Code::unsupported,
              who + ": architecture " + (name.empty() ? type : name) + " is not supported (supported: " + known + ")");
}

int64_t config_int(const Json& hf, const char* key, const std::string& who, int64_t low, int64_t high) {
  auto it = hf.find(key);
  check(it != hf.end() && it->is_number_integer(), Code::input, who, ": ", key, " is missing or not an integer");
  const int64_t v = it->get<int64_t>();
  check(v >= low && v <= high, Code::input, who, ": ", key, " is ", v, ", expected ", low, "..", high);
  return v;
}

int64_t config_int_or(const Json& hf, const char* key, int64_t fallback, const std::string& who, int64_t low,
                      int64_t high) {
  auto it = hf.find(key);
  return it == hf.end() || it->is_null() ? fallback : config_int(hf, key, who, low, high);
}

double config_number_or(const Json& hf, const char* key, double fallback, const std::string& who) {
  auto it = hf.find(key);
  if (it == hf.end() || it->is_null()) return fallback;
  check(it->is_number(), Code::input, who, ": ", key, " is not a number");
  return it->get<double>();
}

bool config_bool_or(const Json& hf, const char* key, bool fallback, const std::string& who) {
  auto it = hf.find(key);
  if (it == hf.end() || it->is_null()) return fallback;
  check(it->is_boolean(), Code::input, who, ": ", key, " is not true or false");
  return it->get<bool>();
}

std::string config_string_or(const Json& hf, const char* key, const std::string& fallback, const std::string& who) {
  auto it = hf.find(key);
  if (it == hf.end() || it->is_null()) return fallback;
  check(it->is_string(), Code::input, who, ": ", key, " is not a string");
  return it->get<std::string>();
}

double shortest(float v) { return config_detail::shortest_double(v); }

void config_only(const Json& hf, const char* key, const Json& value, const std::string& who) {
  auto it = hf.find(key);
  check(it == hf.end() || it->is_null() || *it == value, Code::unsupported, who, ": ", key, " = ",
        it == hf.end() ? "" : it->dump().substr(0, 80), " is not supported (only ", value.dump(), ")");
}

Weight linear_weight(std::string name, std::vector<Param> params, kn::Leaves forward, kn::Leaves backward) {
  Weight w;
  w.name = std::move(name);
  w.role = Role::linear;
  w.params = std::move(params);
  w.forward = forward;
  w.backward = backward;
  return w;
}

Param matrix_param(std::string name, int64_t rows, int64_t cols, ShardDim shard, float init_std) {
  Param p;
  p.name = std::move(name);
  p.rows = rows;
  p.cols = cols;
  p.shard = shard;
  p.init_std = init_std;
  return p;
}

Weight bias_weight(const Weight& linear) {
  Weight w = vector_weight(linear.name + ".bias", "", 0, Init::zeros);
  w.backward = linear.backward;  // it is cut like the product's rows
  const Param pattern = w.params.front();
  w.params.clear();
  for (const Param& p : linear.params) {
    Param b = pattern;
    b.name = p.name.substr(0, p.name.size() - std::string("weight").size()) + "bias";
    b.rows = p.rows;
    b.shard = p.shard == ShardDim::rows ? ShardDim::rows : ShardDim::none;
    w.params.push_back(b);
  }
  return w;
}

Weight vector_weight(std::string name, std::string file_name, int64_t size, Init init) {
  Weight w;
  w.name = std::move(name);
  w.role = Role::vector;
  Param p;
  p.name = std::move(file_name);
  p.rows = size;
  p.cols = 1;
  p.init = init;
  p.decay = false;
  w.params = {std::move(p)};
  return w;
}

Weight embedding_weight(const DecoderConfig& c, std::string file_name) {
  Weight w;
  w.name = "embed";
  w.role = Role::table;
  w.tied_head = c.tied;
  w.padded_rows = c.padded_vocab();
  w.forward = kn::leaves_of(c.hidden);
  w.backward = kn::leaves_of(c.padded_vocab(), c.leaves_vocab);
  Param p;
  p.name = std::move(file_name);
  p.rows = c.vocab;
  p.cols = c.hidden;
  p.init_std = c.init_std;
  p.shard = ShardDim::rows;
  w.params = {std::move(p)};
  return w;
}

}  // namespace llmctl
