// SPDX-License-Identifier: Apache-2.0
// `llmctl model diff A B`: bit for bit, tensor by tensor.
#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <optional>
#include <set>

#include "cmd/model.h"
#include "core/base/digest.h"
#include "core/base/signal.h"

namespace llmctl {
namespace {

struct DiffOptions {
  std::string a, b;
};

using Tensors = std::map<std::string, View>;

// IEEE half precision; exact in double.
double half_value(uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  double v = std::ldexp(exponent ? 1024 + fraction : fraction, (exponent ? exponent : 1) - 25);
  if (exponent == 31) v = fraction ? NAN : INFINITY;
  return bits >> 15 ? -v : v;
}

double value_at(const View& v, int64_t i) {
  auto from_bits = [](uint32_t bits) {
    float f;
    std::memcpy(&f, &bits, 4);
    return static_cast<double>(f);
  };
  switch (v.dtype) {
    case DType::f32: return static_cast<double>(v.as<float>()[i]);
    case DType::bf16: return from_bits(static_cast<uint32_t>(v.as<uint16_t>()[i]) << 16);
    case DType::f16: return half_value(v.as<uint16_t>()[i]);
    case DType::i64: return static_cast<double>(v.as<int64_t>()[i]);
    case DType::i32: return v.as<int32_t>()[i];
    case DType::i8: return v.as<int8_t>()[i];
    case DType::u8: return v.as<uint8_t>()[i];
    case DType::u16: return v.as<uint16_t>()[i];
    case DType::u32: return v.as<uint32_t>()[i];
  }
  return 0;
}

Json number(double v) { return std::isfinite(v) ? Json(v) : Json(fmt::format("{}", v)); }

bool same_shape(const View& a, const View& b) { return a.dtype == b.dtype && a.rank == b.rank && a.dim == b.dim; }

bool same_bytes(const View& a, const View& b) {
  return same_shape(a, b) && (a.bytes() == 0 || std::memcmp(a.data, b.data, static_cast<size_t>(a.bytes())) == 0);
}

// The first element whose bits differ, and the largest distance between any two.
Json element_difference(const View& a, const View& b) {
  const int64_t width = size_of(a.dtype);
  int64_t first = -1, count = 0;
  double largest = 0;
  for (int64_t i = 0; i < a.size(); ++i) {
    if (std::memcmp(a.as<std::byte>() + i * width, b.as<std::byte>() + i * width, static_cast<size_t>(width)) == 0)
      continue;
    if (first < 0) first = i;
    ++count;
    const double distance = std::fabs(value_at(a, i) - value_at(b, i));
    if (distance > largest) largest = distance;
  }
  Json index = Json::array();
  for (int64_t i = first, d = 0; d < a.rank; ++d) {
    int64_t below = 1;
    for (int64_t e = d + 1; e < a.rank; ++e) below *= a.dim[static_cast<size_t>(e)];
    index.push_back(i / below);
    i %= below;
  }
  return {{"index", index},
          {"a", number(value_at(a, first))},
          {"b", number(value_at(b, first))},
          {"elements", count},
          {"of", a.size()},
          {"largest", largest}};
}

std::string described(const View& v) {
  std::string text = kn::name_of(v.dtype);
  for (int i = 0; i < v.rank; ++i) text += fmt::format("{}{}", i ? "x" : " ", v.dim[static_cast<size_t>(i)]);
  return text;
}

// Of one name that at least one side has; null when equal.
Json tensor_difference(const std::string& name, const Tensors& a, const Tensors& b) {
  const auto in_a = a.find(name), in_b = b.find(name);
  if (in_a == a.end() || in_b == b.end())
    return {{"tensor", name}, {"what", in_a == a.end() ? "only in the second" : "only in the first"}};
  if (same_bytes(in_a->second, in_b->second)) return nullptr;
  if (!same_shape(in_a->second, in_b->second))
    return {{"tensor", name}, {"what", described(in_a->second) + " against " + described(in_b->second)}};
  Json d = {{"tensor", name}, {"what", "values"}};
  d.update(element_difference(in_a->second, in_b->second));
  return d;
}

Digest digest_of_tensors(const Tensors& tensors) {
  Digest sum;
  for (const auto& [name, view] : tensors) {
    const Digest bytes = digest_of(view.data, static_cast<uint64_t>(view.bytes()));
    sum += digest_of(name + " " + described(view) + " " + bytes.hex());
  }
  return sum;
}

Tensors open(const fs::path& path, std::optional<TensorStore>& folder, std::optional<SafeTensors>& file) {
  if (fs::is_directory(path) && !has_weights(path) && fs::exists(path / "model")) return open(path / "model", folder, file);
  if (fs::is_directory(path)) return folder.emplace(path).tensors();
  return file.emplace(path).tensors();
}

int diff(const DiffOptions& o, Common& common) {
  std::optional<TensorStore> folder_a, folder_b;
  std::optional<SafeTensors> file_a, file_b;
  const Tensors a = open(o.a, folder_a, file_a), b = open(o.b, folder_b, file_b);
  std::set<std::string> names;
  for (const auto& [name, view] : a) names.insert(name);
  for (const auto& [name, view] : b) names.insert(name);
  Json first = nullptr, differing = Json::array();
  for (const std::string& name : names) {
    stop_if_interrupted("model diff");
    Json d = tensor_difference(name, a, b);
    if (d.is_null()) continue;
    differing.push_back(name);
    if (first.is_null()) first = std::move(d);
  }
  const bool equal = first.is_null();
  const std::string digest_a = digest_of_tensors(a).hex(), digest_b = digest_of_tensors(b).hex();
  std::string text = fmt::format("{} tensors are equal, digest {}", names.size(), digest_a);
  if (!equal) {
    text = fmt::format("{} of {} tensors differ; the first is {}: {}", differing.size(), names.size(),
                       first["tensor"].get<std::string>(), first["what"].get<std::string>());
    if (first.contains("index"))
      text += fmt::format(", at {} {} against {}; {} of {} elements, largest distance {:.6g}", first["index"].dump(),
                          first["a"].dump(), first["b"].dump(), first["elements"].get<int64_t>(),
                          first["of"].get<int64_t>(), first["largest"].get<double>());
  }
  print_result(common,
               {{"equal", equal},
                {"tensors", names.size()},
                {"digest_a", digest_a},
                {"digest_b", digest_b},
                {"first_difference", first},
                {"differing", differing}},
               text);
  return equal ? 0 : static_cast<int>(Code::no);
}

}  // namespace

void add_model_diff(CLI::App& app, Common& common) {
  auto o = std::make_shared<DiffOptions>();
  app.add_option("A", o->a, "model folder, checkpoint or .safetensors file")->required();
  app.add_option("B", o->b, "the other")->required();
  examples(app, {"llmctl model diff runs/a/checkpoints/step-100 runs/b/checkpoints/step-100",
                 "llmctl model diff a/model.safetensors b/model.safetensors --json"});
  on_run(app, common, [o, &common] { return diff(*o, common); });
}

}  // namespace llmctl
