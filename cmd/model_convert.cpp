// SPDX-License-Identifier: Apache-2.0
// `llmctl model convert IN OUT`: a Hugging Face folder in another dtype or sharding. Tensors keep
// their names, so any architecture passes; everything else in the folder is copied as it is.
#include <fmt/format.h>

#include <cstring>

#include "cmd/model.h"
#include "core/base/signal.h"
#include "kernels/basic.h"

namespace llmctl {
namespace {

struct ConvertOptions {
  std::string in, out, dtype;
  int64_t shard_bytes = int64_t{5} << 30;
  bool force = false;
};

bool is_float(DType t) { return t == DType::f32 || t == DType::bf16 || t == DType::f16; }

bool is_gguf(const std::string& path) { return path.size() > 5 && path.substr(path.size() - 5) == ".gguf"; }

// Through fp32 where there is no direct step (f16 to bf16).
void convert_into(const View& from, const View& to, const kn::Exec& exec) {
  if (from.dtype == to.dtype) {
    std::memcpy(to.data, from.data, static_cast<size_t>(from.bytes()));
    return;
  }
  if (from.dtype != DType::f16 || to.dtype == DType::f32) return kn::run(kn::Convert{.x = from, .y = to}, exec);
  std::vector<float> wide(static_cast<size_t>(from.size()));
  const View middle(wide.data(), DType::f32, {from.size()});
  kn::run(kn::Convert{.x = from, .y = middle}, exec);
  kn::run(kn::Convert{.x = middle, .y = to}, exec);
}

NamedView converted(const std::string& name, const View& from, DType dtype, const kn::Exec& exec) {
  NamedView t{name, from};
  if (!is_float(from.dtype)) return t;
  t.view.dtype = dtype;
  t.view.data = nullptr;
  const View flat = reshaped(from, {from.size()});
  t.fill = [flat, dtype, &exec](void* out) {
    stop_if_interrupted("model convert");
    convert_into(flat, View(out, dtype, {flat.size()}), exec);
  };
  return t;
}

Json converted_config(const fs::path& folder, const std::optional<DType>& dtype) {
  Json hf = read_json(folder / "config.json");
  check(hf.is_object(), Code::input, "[convert] ", (folder / "config.json").string(), ": not a JSON object");
  if (!dtype) return hf;
  const char* name = *dtype == DType::bf16 ? "bfloat16" : "float32";
  hf[hf.contains("dtype") ? "dtype" : "torch_dtype"] = name;
  if (hf.contains("llmctl") && hf["llmctl"].is_object()) hf["llmctl"]["compute_dtype"] = kn::name_of(*dtype);
  return hf;
}

bool holds_weights(const fs::path& file) {
  const std::string name = file.filename().string();
  return name.ends_with(".safetensors") || name == "model.safetensors.index.json" || name == "config.json";
}

void copy_rest(const fs::path& from, const fs::path& to) {
  for (const auto& entry : fs::directory_iterator(from)) {
    if (!entry.is_regular_file() || holds_weights(entry.path())) continue;
    std::error_code failed;
    fs::copy_file(entry.path(), to / entry.path().filename(), failed);
    check(!failed, Code::io, "[convert] cannot copy ", entry.path().string(), ": ", failed.message());
  }
}

int convert(const ConvertOptions& o, Common& common) {
  check(!is_gguf(o.in) && !is_gguf(o.out), Code::unsupported, "[convert] ", is_gguf(o.in) ? o.in : o.out,
        ": GGUF is not supported yet, give Hugging Face folders");
  check(has_weights(o.in), Code::input, "[convert] ", o.in, ": no model.safetensors there");
  Runtime runtime(common);
  const TensorStore store(o.in);
  std::optional<DType> dtype;
  if (!o.dtype.empty()) dtype = o.dtype == "bf16" ? DType::bf16 : DType::f32;
  const Json hf = converted_config(o.in, dtype);
  check(!dtype || !hf.contains("quantization_config"), Code::unsupported, "[convert] ", o.in,
        ": the weights are quantised; leave --dtype out to reshard them");
  std::vector<NamedView> tensors;
  int64_t bytes_in = 0, bytes_out = 0;
  for (const auto& [name, view] : store.tensors()) {
    tensors.push_back(dtype ? converted(name, view, *dtype, runtime.exec) : NamedView{name, view});
    bytes_in += view.bytes();
    bytes_out += tensors.back().view.bytes();
  }
  OutputFolder out(o.out, o.force);
  save_tensors(out.path(), tensors, o.shard_bytes);
  write_file(out.path() / "config.json", hf.dump(2) + "\n", true);
  copy_rest(o.in, out.path());
  out.commit();
  print_result(common,
               {{"output", o.out}, {"tensors", tensors.size()}, {"bytes_before", bytes_in}, {"bytes", bytes_out}},
               fmt::format("{} tensors, {} before, {} now: {}", tensors.size(), human_bytes(bytes_in),
                           human_bytes(bytes_out), o.out));
  return 0;
}

}  // namespace

void add_model_convert(CLI::App& app, Common& common) {
  auto o = std::make_shared<ConvertOptions>();
  app.add_option("IN", o->in, "model folder")->required();
  app.add_option("OUT", o->out, "folder to write")->required();
  app.add_option("--dtype", o->dtype, "f32 or bf16; as they are by default")->check(CLI::IsMember({"f32", "bf16"}));
  app.add_option("--shard-size", o->shard_bytes, "largest file, 5GiB for example")
      ->transform(CLI::AsSizeValue(false))
      ->check(at_least(1));
  app.add_flag("--force", o->force, "replace the output");
  examples(app, {"llmctl model convert model model-bf16 --dtype bf16",
                 "llmctl model convert big sharded --shard-size 2GiB"});
  on_run(app, common, [o, &common] { return convert(*o, common); });
}

}  // namespace llmctl
