// SPDX-License-Identifier: Apache-2.0
#include "core/train/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <span>

#include "core/base/digest.h"

namespace llmctl {
namespace {

struct StateKind {
  const char* suffix;
  View WeightState::*view;
};
// PyTorch's names of what AdamW and Muon keep.
constexpr StateKind kAdamW[] = {{".master", &WeightState::master}, {".exp_avg", &WeightState::m},
                                {".exp_avg_sq", &WeightState::v}};
constexpr StateKind kMuon[] = {{".master", &WeightState::master}, {".momentum_buffer", &WeightState::m}};
std::span<const StateKind> kinds_of(const WeightState& w) {
  if (w.muon) return kMuon;
  return kAdamW;
}

std::vector<fs::path> files_below(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& e : fs::recursive_directory_iterator(folder))
    if (e.is_regular_file() && e.path().filename() != "DONE") files.push_back(e.path());
  std::sort(files.begin(), files.end());
  return files;
}

Json digests_of(const fs::path& folder) {
  Json out = Json::object();
  for (const fs::path& f : files_below(folder))
    out[fs::relative(f, folder).generic_string()] = digest_of_file(f).hex();
  return out;
}

// steps in "step-N", or -1.
int64_t step_of(const fs::path& folder) {
  const std::string name = folder.filename().string();
  int64_t n = -1;
  if (!name.starts_with("step-")) return -1;
  const auto [end, ec] = std::from_chars(name.data() + 5, name.data() + name.size(), n);
  return ec == std::errc() && end == name.data() + name.size() ? n : -1;
}

std::vector<fs::path> checkpoints_of(const fs::path& run) {  // newest first
  std::vector<fs::path> found;
  std::error_code ignored;
  for (const auto& e : fs::directory_iterator(run / "checkpoints", ignored))
    if (e.is_directory() && step_of(e.path()) >= 0) found.push_back(e.path());
  std::sort(found.begin(), found.end(), [](const fs::path& a, const fs::path& b) { return step_of(a) > step_of(b); });
  return found;
}

// What a process that was killed while saving left behind. One process writes a run.
void remove_unfinished(const fs::path& run) {
  std::vector<fs::path> left;
  for (const auto& e : fs::directory_iterator(run / "checkpoints"))
    if (const std::string name = e.path().filename().string(); name.starts_with(".step-") && name.ends_with(".tmp"))
      left.push_back(e.path());
  std::error_code ignored;  // space is all they cost
  for (const fs::path& path : left) fs::remove_all(path, ignored);
}

// What is wrong with a checkpoint, or "".
std::string damage_of(const fs::path& checkpoint) {
  if (!fs::exists(checkpoint / "DONE")) return "it has no DONE: the save did not finish";
  try {
    const Json done = read_json(checkpoint / "DONE");
    check(done.is_object() && done.contains("files") && done["files"].is_object(), Code::input, "DONE is malformed");
    for (const char* needed : {"state/optimizer.safetensors", "state/state.json"})
      if (!done["files"].contains(needed)) return std::string("DONE does not name ") + needed;
    for (const auto& [name, digest] : done["files"].items()) {
      if (!fs::exists(checkpoint / name)) return name + " is missing";
      if (digest != digest_of_file(checkpoint / name).hex()) return name + " does not have the digest it was saved with";
    }
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

// A tensor of the model's memory; of a GPU's it is copied when its turn comes.
NamedView on_disk(const std::string& name, const View& v, const kn::Exec& exec) {
  NamedView t{name, v};
  if (exec.device.kind != kn::DeviceKind::cpu) t.fill = [v, &exec](void* out) { kn::download(exec, out, v.data, v.bytes()); };
  return t;
}

void save_state(const fs::path& folder, const Model& model, const CheckpointState& state) {
  std::vector<NamedView> tensors;
  for (const WeightState& w : model.parameters().all())
    for (size_t i = 0; i < w.spec.params.size(); ++i)
      for (const StateKind& kind : kinds_of(w))
        tensors.push_back(on_disk(w.spec.params[i].name + kind.suffix, w.param_rows(w.*kind.view, i), model.exec()));
  save_safetensors(folder / "optimizer.safetensors", tensors, {{"format", "llmctl"}}, true);
  const Json json = {{"step", state.step},
                     {"tokens", state.tokens},
                     {"data_digest", state.data_digest},
                     {"weights_digest", state.weights_digest},
                     {"numerics", 1}};
  write_file(folder / "state.json", json.dump(2) + "\n", true);
}

}  // namespace

fs::path save_checkpoint(const fs::path& run, const Model& model, const CheckpointState& state, int64_t keep,
                         const std::function<void(const fs::path&)>& extra) {
  fs::create_directories(run / "checkpoints");
  const fs::path final = run / "checkpoints" / fmt::format("step-{}", state.step);
  {
    OutputFolder out(final, true);
    fs::create_directories(out.path() / "model");
    fs::create_directories(out.path() / "state");
    model.save(out.path() / "model");
    if (extra) extra(out.path() / "model");
    save_state(out.path() / "state", model, state);
    const Json done = {{"step", state.step}, {"files", digests_of(out.path())}};
    write_file(out.path() / "DONE", done.dump(2) + "\n", true);  // the last file: the rename adds it with the rest
    out.commit();
  }
  remove_unfinished(run);
  if (keep > 0) {
    const std::vector<fs::path> all = checkpoints_of(run);
    for (size_t i = static_cast<size_t>(keep); i < all.size(); ++i) fs::remove_all(all[i]);
  }
  return final;
}

std::optional<fs::path> latest_checkpoint(const fs::path& run, int64_t at_most,
                                          const std::function<void(const std::string&)>& warn) {
  for (const fs::path& c : checkpoints_of(run)) {
    if (step_of(c) > at_most) continue;
    const std::string damage = damage_of(c);
    if (damage.empty()) return c;
    if (warn) warn(fmt::format("checkpoint {} is skipped: {}", c.string(), damage));
  }
  return std::nullopt;
}

CheckpointState load_checkpoint(const fs::path& checkpoint, Model& model, const kn::Exec& exec) {
  const fs::path folder = checkpoint / "state";
  const SafeTensors file(folder / "optimizer.safetensors");
  for (WeightState& w : model.parameters().all()) {
    for (size_t i = 0; i < w.spec.params.size(); ++i)
      for (const StateKind& kind : kinds_of(w)) {
        const View from = file.at(w.spec.params[i].name + kind.suffix), to = w.param_rows(w.*kind.view, i);
        check(from.dtype == DType::f32 && from.size() == to.size() && from.cols() == to.cols(), Code::input,
              "[checkpoint] ", checkpoint.string(), ": ", w.spec.params[i].name, " has another shape: it is of another model");
        kn::upload(exec, to.data, from.data, to.bytes());
      }
  }
  model.parameters().refresh(exec);
  kn::wait(exec);
  const fs::path path = folder / "state.json";
  const Json json = read_json(path);
  auto has = [&](const char* key, auto is) { return json.is_object() && json.contains(key) && (json[key].*is)(); };
  check(has("step", &Json::is_number_unsigned) && has("tokens", &Json::is_number_unsigned) &&
            has("data_digest", &Json::is_string) && has("weights_digest", &Json::is_string),
        Code::input, "[checkpoint] ", path.string(), ": needs step, tokens, data_digest and weights_digest");
  CheckpointState s;
  s.step = json["step"].get<int64_t>();
  s.tokens = json["tokens"].get<int64_t>();
  s.data_digest = json["data_digest"].get<std::string>();
  s.weights_digest = json["weights_digest"].get<std::string>();
  return s;
}

}  // namespace llmctl
