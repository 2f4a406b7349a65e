// SPDX-License-Identifier: Apache-2.0
// A model as a Hugging Face folder on disk and as Parameters + Decoder in memory.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/io/compressed_tensors.h"
#include "core/models/architecture.h"
#include "core/models/panel_cache.h"
#include "core/nn/head.h"

namespace llmctl {

// config.json and generation_config.json, understood.
struct ModelSpec {
  const Architecture* architecture = nullptr;
  DecoderConfig config;
  DType compute = DType::f32;
  std::optional<QuantScheme> quant;
  std::vector<int32_t> eos_ids;
  std::optional<int32_t> bos_id;
  Json hf;  // config.json as read or as it will be written

  Table table() const;
};

// From a folder. The compute dtype is what "llmctl".compute_dtype says, else bf16 when the weights
// are stored as bf16, else f32. Error{input|unsupported}.
ModelSpec read_model_spec(const fs::path& folder);
// From the fields of a config.json (the "model" object of a training config). Leaves follow
// "llmctl".leaves {attention, mlp, experts, vocab} or NUMERICS rule 3's default.
ModelSpec make_model_spec(const Json& hf, DType compute, const std::string& who);

class Model {
 public:
  // Plans; nothing is touched until allocate().
  Model(ModelSpec spec, Purpose purpose, int64_t context, const kn::Exec& exec, const TrainingMemory& training = {});
  // Maps memory and builds what does not depend on weights (rotary tables).
  void allocate();
  // The same with the weights over a mapped file, which the model keeps.
  void allocate_over(PanelMap weights);

  const ModelSpec& spec() const { return spec_; }
  Parameters& parameters() { return parameters_; }
  const Parameters& parameters() const { return parameters_; }
  Decoder& decoder() { return decoder_; }
  const Head& head() const { return head_; }
  int64_t context() const { return context_; }
  const kn::Exec& exec() const { return exec_; }
  // Of a forward pass, with the ranks that share the model's layers.
  Ctx context(const kn::Exec& exec, Arena& arena);
  int64_t bytes() const { return parameters_.bytes() + tables_.peak(); }

  // Weights from a folder with the same shapes: masters when training (collective where these are
  // sharded), the compute copy otherwise.
  void load(const TensorStore& store);
  // The compute copy alone, packed into `sink` piece by piece (Purpose::inference).
  void load(const TensorStore& store, WeightSink& sink);
  // Seeded initial weights (training only): a function of (seed, parameter name, element) alone.
  void initialise(int64_t seed);
  // Writes config.json, generation_config.json and the weights in the compute dtype. Where there is a
  // `source` it gives each master as a whole (rows, cols), for which it may use the memory: they are spread over
  // ranks.
  using MasterSource = std::function<View(const Param&, std::vector<float>& memory)>;
  void save(const fs::path& folder, const MasterSource& source = nullptr) const { save(folder, source, exec_, nullptr); }
  // The same on another thread pool; written(n) says that the first n weights are not read again.
  void save(const fs::path& folder, const MasterSource& source, const kn::Exec& exec,
            const std::function<void(size_t)>& written) const;

 private:
  void load_quantised(const TensorStore& store, const WeightState& w, WeightSink& sink);
  bool load_pieces(const TensorStore& store, const WeightState& w, WeightSink& sink);
  void load_whole(const TensorStore& store, const WeightState& w, WeightSink& sink);
  ModelSpec spec_;
  const kn::Exec& exec_;
  int64_t context_;
  PanelMap mapped_;  // under parameters_, when they are a file
  Parameters parameters_;
  Decoder decoder_;
  Head head_;
  Arena tables_;
};

// Reads, allocates and loads in one go; weights for inference from the cache, where it is to be used.
std::unique_ptr<Model> load_model(const fs::path& folder, Purpose purpose, int64_t context, const kn::Exec& exec,
                                  const PanelCacheOptions& cache = {});

// fill(view) writes `to` (f32, in the model's memory) on the host, or a copy of it that is then brought there.
template <class Fill>
void fill_through_host(const kn::Exec& exec, const View& to, Fill&& fill) {
  if (exec.device.kind == kn::DeviceKind::cpu) return fill(to);
  std::vector<float> values(static_cast<size_t>(to.size()));
  View host = to;
  host.data = values.data();
  fill(host);
  kn::upload(exec, to.data, host.data, to.bytes());
  kn::wait(exec);
}

// The tensor a file holds for `p`: under its name or an alias; Error{input} when none is there.
View find_tensor(const TensorStore& store, const Param& p);
// Error{input|unsupported} when the file's shape or dtype is not one that `p` can be read from.
void check_file(const View& file, const Param& p);
// Copies a file tensor (f32, bf16 or f16) into `out` (rows, cols) f32 or bf16, transposing as `p`
// asks. Error{input} when shapes disagree.
void read_param(const View& file, const Param& p, const View& out, const kn::Exec& exec);
// The inverse: memory (rows, cols) f32 to the file's layout in `dtype` at `out`.
void write_param(const View& memory, const Param& p, DType dtype, void* out, const kn::Exec& exec);
// The shape a file has for `p`.
View file_shape(const Param& p, Role role, DType dtype);

}  // namespace llmctl
