// SPDX-License-Identifier: Apache-2.0
#include "core/train/state_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <span>

#include "core/base/json.h"
#include "core/io/tensor_store.h"
#include "core/models/model.h"

namespace llmctl {
namespace {

struct StateKind {
  const char* suffix;
  View WeightState::*view;
};
constexpr StateKind kAdamW[] = {{".master", &WeightState::master}, {".exp_avg", &WeightState::m},
                                {".exp_avg_sq", &WeightState::v}};
constexpr StateKind kMuon[] = {{".master", &WeightState::master}, {".momentum_buffer", &WeightState::m}};
std::span<const StateKind> kinds_of(const WeightState& w) {
  if (w.muon) return kMuon;
  return kAdamW;
}

// A vector is one row of its parameter's length in views, and as many rows of one in tables.
RowRange rows_in_file(const WeightState& w, const RowRange& r) {
  return w.spec.role == Role::vector ? RowRange{0, r.count > 0 ? 1 : 0} : r;
}

// A tensor of the model's memory; of a GPU's it is copied when its turn comes.
NamedView on_disk(const std::string& name, const View& v, const kn::Exec& exec) {
  NamedView t{name, v};
  if (exec.device.kind != kn::DeviceKind::cpu) t.fill = [v, &exec](void* out) { kn::download(exec, out, v.data, v.bytes()); };
  return t;
}

}  // namespace

fs::path save_state_file(const fs::path& folder, const Parameters& parameters, const kn::Exec& exec,
                         const std::function<void(size_t)>& written) {
  const Sharding& s = parameters.sharding();
  std::vector<NamedView> tensors;
  Json first_row = Json::object();
  size_t count = 0;
  for (const WeightState& w : parameters.all()) {
    for (size_t i = 0; i < w.spec.params.size(); ++i) {
      const auto rank = static_cast<size_t>(s.rank);
      const RowRange rows = w.rows_within(i, {w.borders[rank], w.borders[rank + 1] - w.borders[rank]});
      if (rows.count == 0) continue;
      for (const StateKind& kind : kinds_of(w)) {
        const std::string name = w.spec.params[i].name + kind.suffix;
        tensors.push_back(on_disk(name, w.kept(w.*kind.view, i, rows), exec));
        if (const int64_t first = rows_in_file(w, rows).begin; first > 0) first_row[name] = first;
      }
    }
    ++count;  // a weight of which nothing is here goes with the one before
    if (written && !tensors.empty()) tensors.back().written = [&written, count] { written(count); };
  }
  const fs::path path = folder / (s.shared() ? fmt::format("optimizer-{:05}-of-{:05}.safetensors", s.rank + 1, s.ranks)
                                             : "optimizer.safetensors");
  std::map<std::string, std::string> metadata = {{"format", "llmctl"}};
  if (!first_row.empty()) metadata["first_row"] = first_row.dump();
  save_safetensors(path, tensors, metadata, true);
  return path;
}

StateFiles::StateFiles(const fs::path& folder) : folder_(folder) {
  for (const auto& e : fs::directory_iterator(folder))
    if (const std::string name = e.path().filename().string(); name.starts_with("optimizer") && name.ends_with(".safetensors"))
      files_.emplace_back(e.path());
  check(!files_.empty(), Code::input, "[checkpoint] ", folder.string(), " holds no optimizer*.safetensors");
  for (const SafeTensors& file : files_) {
    Json first = Json::object();
    if (const auto at = file.metadata().find("first_row"); at != file.metadata().end())
      first = parse_json(at->second, file.path().string() + ": first_row");
    check(first.is_object(), Code::input, "[checkpoint] ", file.path().string(), ": first_row is not an object");
    std::byte *begin = nullptr, *end = nullptr;
    for (const auto& [name, view] : file.tensors()) {
      auto* data = static_cast<std::byte*>(view.data);
      begin = begin ? std::min(begin, data) : data;
      end = std::max(end, data + view.bytes());
      const Json row = first.value(name, Json(0));
      check(row.is_number_unsigned() || row == 0, Code::input, "[checkpoint] ", file.path().string(), ": first_row of ",
            name, " is ", row.dump());
      check(view.dtype == DType::f32, Code::input, "[checkpoint] ", file.path().string(), ": ", name, " is not f32");
      runs_[name].push_back({row.get<int64_t>(), view});
    }
    mapped_.push_back(View(begin, DType::u8, {end - begin}));
  }
  for (auto& [name, runs] : runs_)
    std::sort(runs.begin(), runs.end(), [](const Run& a, const Run& b) { return a.first_row < b.first_row; });
}

void StateFiles::copy(const std::string& name, int64_t cols, int64_t all_rows, const RowRange& rows, float* out) const {
  const auto found = runs_.find(name);
  check(found != runs_.end(), Code::input, "[checkpoint] ", folder_.string(), ": no tensor named ", name);
  int64_t next = 0;
  for (const Run& run : found->second) {
    check(run.rows.cols() == cols, Code::input, "[checkpoint] ", folder_.string(), ": ", name,
          " has another shape: it is of another model");
    check(run.first_row == next, Code::input, "[checkpoint] ", folder_.string(), ": ", name, " has rows up to ", next,
          " and then from ", run.first_row, ": a file is missing or twice there");
    const int64_t from = std::max(rows.begin, next), to = std::min(rows.begin + rows.count, next + run.rows.rows());
    if (from < to)
      std::memcpy(out + (from - rows.begin) * cols, run.rows.as<float>() + (from - next) * cols,
                  static_cast<size_t>((to - from) * cols) * sizeof(float));
    next += run.rows.rows();
  }
  check(next == all_rows, Code::input, "[checkpoint] ", folder_.string(), ": ", name, " has ", next, " rows of ", all_rows,
        ": a file is missing, or it is of another model");
}

void StateFiles::read(Parameters& parameters, const kn::Exec& exec) const {
  for (WeightState& w : parameters.all())
    for (size_t i = 0; i < w.spec.params.size(); ++i)
      for (const StateKind& kind : kinds_of(w)) {
        const View to = w.kept(w.*kind.view, i);
        const View whole = w.shape_of(i);
        fill_through_host(exec, to, [&](const View& host) {
          copy(w.spec.params[i].name + kind.suffix, whole.cols(), whole.rows(), rows_in_file(w, w.kept_rows(i)), host.as<float>());
        });
      }
}

View StateFiles::master(const Param& p, std::vector<float>& memory) const {
  for (const View& file : mapped_) release_pages(file);  // or a whole state would be resident at the end
  const std::string name = p.name + ".master";
  const auto found = runs_.find(name);
  check(found != runs_.end(), Code::input, "[checkpoint] ", folder_.string(), ": no tensor named ", name);
  const int64_t cols = found->second.front().rows.cols(), rows = p.rows * p.cols / cols;
  if (found->second.size() == 1 && found->second.front().rows.size() == rows * cols) return found->second.front().rows;
  memory.resize(static_cast<size_t>(rows * cols));
  copy(name, cols, rows, {0, rows}, memory.data());
  return View(memory.data(), DType::f32, {rows, cols});
}

}  // namespace llmctl
