// SPDX-License-Identifier: Apache-2.0
#include "core/models/model.h"

#include <cstring>

#include "core/base/digest.h"
#include "kernels/basic.h"
#include "kernels/random.h"

namespace llmctl {
namespace {

template <class T>
void transpose(const T* in, int64_t rows, int64_t cols, T* out) {  // out (cols, rows)
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c) out[c * rows + r] = in[r * cols + c];
}

void transpose(const View& in, int64_t rows, int64_t cols, void* out) {
  if (in.dtype == DType::f32)
    transpose(in.as<float>(), rows, cols, static_cast<float*>(out));
  else
    transpose(in.as<uint16_t>(), rows, cols, static_cast<uint16_t*>(out));
}

}  // namespace

View find_tensor(const TensorStore& store, const Param& p) {
  if (store.has(p.name)) return store.at(p.name);
  for (const std::string& alias : p.aliases)
    if (store.has(alias)) return store.at(alias);
  return store.at(p.name);  // the error names it
}

View file_shape(const Param& p, Role role, DType dtype) {
  if (role == Role::vector) return View(nullptr, dtype, {p.rows});
  return p.transposed ? View(nullptr, dtype, {p.cols, p.rows}) : View(nullptr, dtype, {p.rows, p.cols});
}

void check_file(const View& file, const Param& p) {
  const int64_t rows = p.transposed ? p.cols : p.rows, cols = p.transposed ? p.rows : p.cols;
  const bool vector = p.cols == 1 && file.rank == 1 && file.dim[0] == p.rows;
  check(vector || (file.rank == 2 && file.dim[0] == rows && file.dim[1] == cols), Code::input, "[model] ", p.name,
        " has shape (", file.dim[0], file.rank > 1 ? ", " + std::to_string(file.dim[1]) : "", "), config.json asks for (",
        rows, vector ? "" : ", " + std::to_string(cols), ")");
  check(file.dtype == DType::f32 || file.dtype == DType::bf16 || file.dtype == DType::f16, Code::unsupported,
        "[model] ", p.name, " is stored as ", kn::name_of(file.dtype));
}
void read_param(const View& file, const Param& p, const View& out, const kn::Exec& exec) {
  check_file(file, p);
  const int64_t rows = p.transposed ? p.cols : p.rows, cols = p.transposed ? p.rows : p.cols;
  if (!p.transposed) return kn::run(kn::Convert{.x = reshaped(file, {out.size()}), .y = reshaped(out, {out.size()})}, exec);
  std::vector<std::byte> turned(static_cast<size_t>(file.bytes()));
  transpose(file, rows, cols, turned.data());
  kn::run(kn::Convert{.x = View(turned.data(), file.dtype, {out.size()}), .y = reshaped(out, {out.size()})}, exec);
}

void write_param(const View& memory, const Param& p, DType dtype, void* out, const kn::Exec& exec) {
  const View converted(out, dtype, {p.rows * p.cols});
  kn::run(kn::Convert{.x = reshaped(memory, {p.rows * p.cols}), .y = converted}, exec);
  if (!p.transposed) return;
  std::vector<std::byte> copy(static_cast<size_t>(converted.bytes()));
  std::memcpy(copy.data(), out, copy.size());
  transpose(View(copy.data(), dtype, {p.rows, p.cols}), p.rows, p.cols, out);
}

Model::Model(ModelSpec spec, Purpose purpose, int64_t context, const kn::Exec& exec, const TrainingMemory& training)
    : spec_(std::move(spec)),
      exec_(exec),
      context_(context),
      parameters_(spec_.table(), spec_.compute, purpose, exec.device, training),
      decoder_(spec_.config, parameters_),
      tables_("tables", exec.device) {
  check(context >= 1 && context <= spec_.config.positions, Code::usage, "[model] context ", context,
        " is outside 1..", spec_.config.positions, " (max_position_embeddings)");
  head_ = Head::of(decoder_);
  kn::Exec dry = exec;
  dry.plan = true;
  decoder_.make_rope(tables_, context_, dry);
}

void Model::allocate() {
  parameters_.allocate();
  tables_.allocate();
  decoder_.make_rope(tables_, context_, exec_);
}

void Model::allocate_over(PanelMap weights) {
  mapped_ = std::move(weights);
  parameters_.allocate_over(mapped_.data.get(), mapped_.bytes);
  tables_.allocate();
  decoder_.make_rope(tables_, context_, exec_);
}

Ctx Model::context(const kn::Exec& exec, Arena& arena) {
  Ctx ctx{.exec = exec, .arena = arena};
  ctx.tensor = parameters_.sharding().along(Axis::tp);
  ctx.pipeline = parameters_.sharding().along(Axis::pp);
  ctx.experts = parameters_.sharding().along(Axis::ep);
  if (!exec.plan) ctx.store = parameters_.store();
  return ctx;
}

void Model::load(const TensorStore& store) {
  if (parameters_.purpose() == Purpose::inference) {
    if (exec_.device.kind != kn::DeviceKind::cpu) {
      DeviceSink sink(exec_);
      return load(store, sink);
    }
    InPlace sink;
    return load(store, sink);
  }
  std::vector<float> whole;
  const kn::Exec host = kn::on_host(exec_);
  const auto read = [&] {
    for (WeightState& w : parameters_.all())
      for (size_t i = 0; i < w.spec.params.size(); ++i) {
        const Param& p = w.spec.params[i];
        const View kept = w.kept(w.master, i), file = find_tensor(store, p);
        if (kept.size() == p.rows * p.cols) {
          fill_through_host(exec_, kept, [&](const View& out) { read_param(file, p, out, host); });
          continue;
        }
        check_file(file, p);
        if (kept.size() == 0) continue;
        whole.resize(static_cast<size_t>(p.rows * p.cols));
        read_param(file, p, View(whole.data(), DType::f32, {p.rows, p.cols}), host);
        std::memcpy(kept.data, whole.data() + w.kept_rows(i).begin * p.cols, static_cast<size_t>(kept.bytes()));
      }
  };
  const Sharding& sharding = parameters_.sharding();
  if (sharding.shared())
    together(*sharding.comm, "initial weights", read);
  else
    read();
  parameters_.refresh(exec_);
}

void Model::initialise(int64_t seed) {
  for (WeightState& w : parameters_.all()) {
    for (size_t i = 0; i < w.spec.params.size(); ++i) {
      const Param& p = w.spec.params[i];
      const RowRange rows = w.kept_rows(i);
      const kn::RandomKey key{static_cast<uint64_t>(seed), 0, static_cast<uint32_t>(digest_of(p.name).low)};
      fill_through_host(exec_, w.kept(w.master, i), [&](const View& to) {
        float* out = to.as<float>();
        kn::parallel_for(exec_, rows.count, [&](int64_t r) {
          for (int64_t c = 0; c < p.cols; ++c) {
            const int64_t at = (rows.begin + r) * p.cols + c;
            float value = p.init == Init::ones ? 1.0f : 0.0f;
            if (p.init == Init::normal)
              value = p.init_std * static_cast<float>(kn::random_normal(key, static_cast<uint64_t>(at)));
            out[r * p.cols + c] = value;
          }
        });
      });
    }
  }
  parameters_.refresh(exec_);
}

void Model::save(const fs::path& folder, const MasterSource& source, const kn::Exec& exec,
                 const std::function<void(size_t)>& written) const {
  check(parameters_.purpose() == Purpose::training, Code::bug, "[model] save needs master weights");
  std::vector<NamedView> tensors;
  size_t count = 0;
  for (const WeightState& w : parameters_.all()) {
    for (size_t i = 0; i < w.spec.params.size(); ++i) {
      const Param& p = w.spec.params[i];
      const View memory = w.kept(w.master, i);
      const bool whole = !source;
      check(source || memory.size() == p.rows * p.cols, Code::bug, "[model] ", p.name, " is spread over ranks");
      NamedView t{p.name, file_shape(p, w.spec.role, spec_.compute)};
      t.fill = [&p, memory, whole, source, &exec, this](void* out) {
        std::vector<float> gathered;
        View host = whole ? memory : source(p, gathered);
        if (whole && exec.device.kind != kn::DeviceKind::cpu) {
          gathered = fetched<float>(exec, memory);
          host.data = gathered.data();
        }
        write_param(host, p, spec_.compute, out, kn::on_host(exec));
      };
      tensors.push_back(std::move(t));
    }
    ++count;
    if (written) tensors.back().written = [&written, count] { written(count); };
  }
  save_tensors(folder, tensors);
  write_file(folder / "config.json", spec_.hf.dump(2) + "\n", true);
  Json generation = {{"_from_model_config", true}};
  if (spec_.bos_id) generation["bos_token_id"] = *spec_.bos_id;
  if (!spec_.eos_ids.empty()) generation["eos_token_id"] = spec_.eos_ids;
  write_file(folder / "generation_config.json", generation.dump(2) + "\n", true);
}

}  // namespace llmctl
