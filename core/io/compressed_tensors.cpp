// SPDX-License-Identifier: Apache-2.0
#include "core/io/compressed_tensors.h"

#include <bit>
#include <cstring>

namespace llmctl {
namespace {

float scale_at(const View& v, int64_t i) {
  if (v.dtype == DType::f32) return v.as<float>()[i];
  const uint32_t bits = static_cast<uint32_t>(v.as<uint16_t>()[i]) << 16;
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}

std::byte* keep(QuantStorage& storage, const void* data, size_t bytes) {
  storage.blocks.emplace_back(bytes);
  std::memcpy(storage.blocks.back().data(), data, bytes);
  return storage.blocks.back().data();
}

const Json* field(const Json& o, const char* key) {
  auto it = o.find(key);
  return it == o.end() || it->is_null() ? nullptr : &*it;
}

}  // namespace

std::optional<QuantScheme> read_quant_scheme(const Json& hf, const std::string& who) {
  const Json* q = field(hf, "quantization_config");
  if (!q) return std::nullopt;
  check(q->is_object(), Code::input, who, ": quantization_config is not an object");
  const Json* method = field(*q, "quant_method");
  check(method && *method == "compressed-tensors", Code::unsupported, who, ": quant_method ",
        method ? method->dump() : "null", " is not supported (only compressed-tensors)");
  const Json* groups = field(*q, "config_groups");
  check(groups && groups->is_object() && groups->size() == 1 && groups->begin()->is_object(), Code::unsupported, who,
        ": exactly one entry in config_groups is supported");
  const Json& g = *groups->begin();
  check(!field(g, "input_activations"), Code::unsupported, who, ": quantised activations are not supported");
  const Json* w = field(g, "weights");
  check(w && w->is_object(), Code::input, who, ": config_groups has no weights");
  QuantScheme s;
  const Json *bits = field(*w, "num_bits"), *type = field(*w, "type"), *symmetric = field(*w, "symmetric"),
             *strategy = field(*w, "strategy"), *size = field(*w, "group_size");
  check(bits && bits->is_number_integer() && (*bits == 8 || *bits == 4), Code::unsupported, who,
        ": num_bits must be 8 or 4");
  check(!type || *type == "int", Code::unsupported, who, ": weights of type ", type ? type->dump() : "");
  check(!symmetric || *symmetric == true, Code::unsupported, who, ": asymmetric weights are not supported");
  s.bits = bits->get<int>();
  const std::string kind = strategy && strategy->is_string() ? strategy->get<std::string>() : "group";
  check(kind == "group" || kind == "channel", Code::unsupported, who, ": strategy ", kind, " (group or channel)");
  s.group = 0;
  if (kind == "group") {
    check(size && size->is_number_integer(), Code::input, who, ": group_size is missing");
    s.group = size->get<int64_t>();
    check(s.group >= 32 && s.group <= 65536 && s.group % 32 == 0, Code::unsupported, who, ": group_size ", s.group,
          " is not a multiple of 32");
  }
  if (const Json* ignore = field(*q, "ignore")) {
    check(ignore->is_array(), Code::input, who, ": ignore is not a list");
    for (const Json& name : *ignore)
      if (name.is_string()) s.ignore.push_back(name.get<std::string>());
  }
  return s;
}

Json write_quant_scheme(const QuantScheme& s) {
  Json weights = {{"num_bits", s.bits}, {"type", "int"},     {"symmetric", true},
                  {"strategy", s.group ? "group" : "channel"}, {"dynamic", false}, {"observer", "minmax"}};
  weights["group_size"] = s.group ? Json(s.group) : Json(nullptr);
  const char* format = s.bits == 8 ? "int-quantized" : "pack-quantized";
  return {{"quant_method", "compressed-tensors"},
          {"format", format},
          {"quantization_status", "compressed"},
          {"config_groups",
           {{"group_0", {{"targets", {"Linear"}}, {"weights", weights}, {"input_activations", nullptr},
                         {"output_activations", nullptr}, {"format", format}}}}},
          {"ignore", s.ignore}};
}

bool is_quantised(const TensorStore& store, const std::string& module) {
  return store.has(module + ".weight_packed") || store.has(module + ".weight_scale");
}

QuantMatrix read_quant_matrix(const TensorStore& store, const std::string& module, const QuantScheme& scheme,
                              int64_t rows, int64_t cols) {
  const std::string who = "[compressed-tensors] " + module;
  QuantMatrix m;
  m.rows = rows;
  m.cols = cols;
  m.bits = scheme.bits;
  m.group = scheme.group ? scheme.group : (cols + 31) / 32 * 32;
  const int64_t groups = (cols + m.group - 1) / m.group;
  const View scale = store.at(module + ".weight_scale");
  check((scale.dtype == DType::f32 || scale.dtype == DType::bf16) && scale.dim[0] == rows && scale.size() == rows * groups,
        Code::input, who, ": weight_scale has ", scale.size(), " values, expected ", rows * groups);
  m.scale.resize(static_cast<size_t>(rows * groups));
  for (int64_t i = 0; i < rows * groups; ++i) m.scale[static_cast<size_t>(i)] = scale_at(scale, i);
  m.q.resize(static_cast<size_t>(rows * cols));
  if (m.bits == 8) {
    const View q = store.at(module + ".weight");
    check(q.dtype == DType::i8 && q.rank == 2 && q.dim[0] == rows && q.dim[1] == cols, Code::input, who,
          ": weight is not int8 (", rows, ", ", cols, ")");
    std::memcpy(m.q.data(), q.data, m.q.size());
    for (int8_t v : m.q) check(v != -128, Code::unsupported, who, ": the value -128 is outside [-127, 127]");
    return m;
  }
  const View packed = store.at(module + ".weight_packed");
  const int64_t words = (cols + 7) / 8;
  check(packed.dtype == DType::i32 && packed.rank == 2 && packed.dim[0] == rows && packed.dim[1] == words, Code::input,
        who, ": weight_packed is not int32 (", rows, ", ", words, ")");
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c) {
      const auto word = static_cast<uint32_t>(packed.as<int32_t>()[r * words + c / 8]);
      m.q[static_cast<size_t>(r * cols + c)] = static_cast<int8_t>(static_cast<int>((word >> (4 * (c % 8))) & 15u) - 8);
    }
  return m;
}

void append_quant_tensors(const std::string& module, const QuantMatrix& m, QuantStorage& storage,
                          std::vector<NamedView>& out) {
  const int64_t groups = (m.cols + m.group - 1) / m.group;
  if (m.bits == 8) {
    out.push_back({module + ".weight", View(keep(storage, m.q.data(), m.q.size()), DType::i8, {m.rows, m.cols})});
  } else {
    const int64_t words = (m.cols + 7) / 8;
    std::vector<uint32_t> packed(static_cast<size_t>(m.rows * words), 0);
    for (int64_t r = 0; r < m.rows; ++r)
      for (int64_t c = 0; c < m.cols; ++c)
        packed[static_cast<size_t>(r * words + c / 8)] |=
            static_cast<uint32_t>(m.q[static_cast<size_t>(r * m.cols + c)] + 8) << (4 * (c % 8));
    out.push_back({module + ".weight_packed",
                   View(keep(storage, packed.data(), packed.size() * 4), DType::i32, {m.rows, words})});
    const int64_t shape[2] = {m.rows, m.cols};
    out.push_back({module + ".weight_shape", View(keep(storage, shape, sizeof shape), DType::i64, {2})});
  }
  std::vector<uint16_t> top;
  for (float s : m.scale) {
    const auto bits = std::bit_cast<uint32_t>(s);
    if ((bits & 0xffffu) != 0) break;
    top.push_back(static_cast<uint16_t>(bits >> 16));
  }
  const bool short_scales = top.size() == m.scale.size();
  const void* scales = short_scales ? static_cast<const void*>(top.data()) : m.scale.data();
  const DType dtype = short_scales ? DType::bf16 : DType::f32;
  out.push_back({module + ".weight_scale",
                 View(keep(storage, scales, m.scale.size() * (short_scales ? 2 : 4)), dtype, {m.rows, groups})});
}

}  // namespace llmctl
