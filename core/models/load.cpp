// SPDX-License-Identifier: Apache-2.0
// From the files of a folder to the weights that inference reads, in pieces: packed into memory, or into
// a file of the panel cache.
#include <fmt/format.h>

#include <sys/stat.h>
#include <unistd.h>

#include <cstring>

#include "core/models/model.h"
#include "kernels/basic.h"

namespace llmctl {
namespace {

std::string module_of(const Param& p) { return p.name.substr(0, p.name.rfind(".weight")); }

// Rows of a matrix that are packed at a time: whole panels, and few pages of the file in memory.
int64_t piece_rows(int64_t row_bytes) {
  constexpr int64_t kPiece = int64_t{4} << 20, kRows = 2 * kn::kPanelColumns;
  return std::max<int64_t>(1, kPiece / row_bytes / kRows) * kRows;
}

// Calls with (first row, view of the rows) of a mapped tensor; pages come in one go and leave at once.
template <class Body>
void each_piece(const View& file, int64_t cols, Body&& body) {
  const View matrix = reshaped(file, {file.size() / cols, cols});
  const int64_t step = piece_rows(cols * size_of(file.dtype));
  for (int64_t r = 0; r < matrix.rows(); r += step) {
    const View rows = rows_of(matrix, r, std::min(step, matrix.rows() - r));
    body(r, rows);
    release_pages(rows);
  }
}

// The piece of `whole` from byte `begin`, in the sink's memory.
View staged(WeightSink& sink, const View& whole, int64_t begin, DType dtype, std::initializer_list<int64_t> dims) {
  View piece(nullptr, dtype, dims);
  piece.data = sink.stage(whole.as<std::byte>() + begin, piece.bytes());
  return piece;
}

}  // namespace

void Model::load_quantised(const TensorStore& store, const WeightState& w, WeightSink& sink) {
  const kn::Exec host = kn::on_host(exec_);
  const int64_t cols = w.spec.cols();
  QuantMatrix whole;
  for (const Param& p : w.spec.params) {
    QuantMatrix m = read_quant_matrix(store, module_of(p), *spec_.quant, p.rows, cols);
    whole.group = m.group;
    whole.q.insert(whole.q.end(), m.q.begin(), m.q.end());
    whole.scale.insert(whole.scale.end(), m.scale.begin(), m.scale.end());
  }
  whole.rows = w.spec.padded_rows;
  whole.cols = cols;
  whole.q.resize(static_cast<size_t>(whole.rows * cols), 0);
  whole.scale.resize(static_cast<size_t>(whole.rows * whole.scale_view().cols()), 0.0f);
  const View panels = staged(sink, w.quant_panels, 0, DType::u8, {w.quant_panels.size()});
  kn::run(kn::PackQuantPanels{.q = whole.q_view(), .scale = whole.scale_view(), .dst = panels, .bits = w.bits,
                              .group = w.group}, host);
  sink.done();
}

// Straight from the mapped file, where every parameter fills whole panels and is stored as it is
// multiplied. Pages of the file are given back at once: the weights stay in memory once.
bool Model::load_pieces(const TensorStore& store, const WeightState& w, WeightSink& sink) {
  const kn::Exec host = kn::on_host(exec_);
  const int64_t element = size_of(spec_.compute);
  int64_t begin = 0;
  for (const Param& p : w.spec.params) {
    const View file = find_tensor(store, p);
    check_file(file, p);
    const bool packs = file.dtype == spec_.compute || (file.dtype == DType::f32 && spec_.compute == DType::bf16);
    if (p.transposed || !packs || (w.spec.multiplies() && begin % kn::kPanelColumns != 0)) return false;
    begin += p.rows;
  }
  begin = 0;
  if (w.rows)
    for (const Param& p : w.spec.params) {
      each_piece(find_tensor(store, p), p.cols, [&](int64_t r, const View& rows) {
        const View out = staged(sink, w.rows, (begin + r) * p.cols * element, spec_.compute, {rows.rows(), p.cols});
        kn::run(kn::Convert{.x = rows, .y = out}, host);
        sink.done();
      });
      begin += p.rows;
    }
  begin = 0;
  if (w.panels)
    for (const Param& p : w.spec.params) {
      const int64_t panel = kn::panel_elements(spec_.compute, p.cols, kn::kPanelColumns) * element;
      each_piece(find_tensor(store, p), p.cols, [&](int64_t r, const View& rows) {
        const View out = staged(sink, w.panels, (begin + r) / kn::kPanelColumns * panel, spec_.compute,
                                {kn::panel_elements(spec_.compute, p.cols, rows.rows())});
        kn::run(kn::PackPanels{.src = rows, .panels = out, .panels_t = {}}, host);
        sink.done();
      });
      begin += p.rows;
    }
  return true;
}

// Through a copy of the whole weight: tensors that are turned, of another dtype, or cut within panels.
void Model::load_whole(const TensorStore& store, const WeightState& w, WeightSink& sink) {
  const kn::Exec host = kn::on_host(exec_);
  const int64_t n = w.spec.padded_rows * w.spec.cols();
  std::vector<std::byte> copy(static_cast<size_t>(n * size_of(spec_.compute)));
  View whole(copy.data(), spec_.compute, {w.spec.padded_rows, w.spec.cols()});
  if (w.spec.role == Role::vector) whole = reshaped(whole, {n});
  for (size_t i = 0; i < w.spec.params.size(); ++i)
    read_param(find_tensor(store, w.spec.params[i]), w.spec.params[i], w.param_rows(whole, i), host);
  if (w.rows) {
    const View out = staged(sink, w.rows, 0, spec_.compute, {n});
    std::memcpy(out.data, copy.data(), copy.size());
    sink.done();
  }
  if (w.panels) {
    const View out = staged(sink, w.panels, 0, spec_.compute, {w.panels.size()});
    kn::run(kn::PackPanels{.src = whole, .panels = out, .panels_t = {}}, host);
    sink.done();
  }
}

void Model::load(const TensorStore& store, WeightSink& sink) {
  check(parameters_.purpose() == Purpose::inference, Code::bug, "[model] masters are not loaded into a sink");
  for (const WeightState& w : parameters_.all()) {
    if (w.bits)
      load_quantised(store, w, sink);
    else if (!load_pieces(store, w, sink))
      load_whole(store, w, sink);
  }
}

namespace {

// What the packing kernels make of a small matrix: a digest that changes with their layout.
Digest packed_probe(DType compute, int bits, int64_t group, const kn::Exec& exec) {
  constexpr int64_t kRows = 40;
  const int64_t cols = bits ? 2 * group : 70;
  std::vector<float> f32(static_cast<size_t>(kRows * cols));
  std::vector<int8_t> i8(f32.size());
  for (size_t i = 0; i < f32.size(); ++i) {
    i8[i] = static_cast<int8_t>(static_cast<int>(i * 37 % (bits == 8 ? 255 : 16)) - (bits == 8 ? 127 : 8));
    f32[i] = static_cast<float>(i + 1);
  }
  std::vector<std::byte> out;
  if (bits) {
    std::vector<float> scale(static_cast<size_t>(2 * kRows));
    for (size_t i = 0; i < scale.size(); ++i) scale[i] = static_cast<float>(i + 1);
    out.resize(static_cast<size_t>(kn::quant_panel_bytes(bits, kRows, cols, group)));
    kn::run(kn::PackQuantPanels{.q = View(i8.data(), DType::i8, {kRows, cols}),
                                .scale = View(scale.data(), DType::f32, {kRows, 2}),
                                .dst = View(out.data(), DType::u8, {static_cast<int64_t>(out.size())}),
                                .bits = bits, .group = group}, exec);
  } else {
    const int64_t n = kn::panel_elements(compute, cols, kRows);
    out.resize(static_cast<size_t>(n * size_of(compute)));
    kn::run(kn::PackPanels{.src = View(f32.data(), DType::f32, {kRows, cols}), .panels = View(out.data(), compute, {n}),
                           .panels_t = {}}, exec);
  }
  return digest_of(out.data(), out.size());
}

// Everything that decides the bytes of the parameters' memory, which is planned but not yet there.
Digest key_of(const Model& model, const TensorStore& store, const fs::path& folder, const kn::Exec& exec) {
  const DType compute = model.spec().compute;
  std::string text = fmt::format("panels 1 {} {}\n", kn::name_of(compute), packed_probe(compute, 0, 0, exec).hex());
  for (const fs::path& file : store.files()) text += remembered_digest(file, folder, exec).hex() + "\n";
  const std::byte* base = nullptr;
  int bits = 0;
  const auto place = [&](const View& v) {
    if (!v) return;
    if (!base) base = v.as<std::byte>();
    text += fmt::format(" {}+{}", v.as<std::byte>() - base, v.bytes());
  };
  for (const WeightState& w : model.parameters().all()) {
    text += fmt::format("{} {} {}x{} {}/{}", w.spec.name, static_cast<int>(w.spec.role), w.spec.padded_rows, w.spec.cols(),
                        w.bits, w.group);
    place(w.rows), place(w.panels), place(w.quant_panels);
    for (const Param& p : w.spec.params) text += fmt::format(" {} {} {}", p.name, p.rows, p.transposed);
    if (w.bits && std::exchange(bits, w.bits) != w.bits) text += " " + packed_probe(compute, w.bits, w.group, exec).hex();
    text += "\n";
  }
  return digest_of(text);
}

std::unique_ptr<Model> plan(const ModelSpec& spec, const TensorStore& store, Purpose purpose, int64_t context,
                            const kn::Exec& exec) {
  auto model = std::make_unique<Model>(spec, purpose, context == 0 ? spec.config.positions : context, exec);
  if (!spec.quant) return model;
  auto& weights = model->parameters().all();
  for (size_t i = 0; i < weights.size(); ++i) {
    const Weight& w = weights[i].spec;
    if (!w.multiplies() || !is_quantised(store, module_of(w.params[0]))) continue;
    const int64_t group = spec.quant->group;
    model->parameters().quantise(static_cast<int>(i), spec.quant->bits, group ? group : (w.cols() + 31) / 32 * 32);
  }
  return model;
}

// False when there is nothing to be had: the model is then to be planned anew if it has memory.
bool load_cached(Model& model, const TensorStore& store, const PanelCacheOptions& options, const kn::Exec& exec) {
  // A key is of the files' contents by name, the weights are of what was mapped: both must stay the same thing.
  const auto check_unchanged = [&] {
    check(store.unchanged(), Code::io, "[cache] the model's files are being changed");
  };
  try {
    const Digest key = key_of(model, store, options.folder, exec);
    check_unchanged();
    PanelCache cache(options, key, model.parameters().bytes(), exec);
    if (std::optional<PanelMap> map = cache.find()) {
      model.allocate_over(std::move(*map));
    } else {
      const auto writer = cache.writer();
      if (!writer) return false;
      model.allocate_over(writer->map());
      model.load(store, *writer);
      check_unchanged();
      writer->commit();
    }
    cache.evict();
    return true;
  } catch (const Error& e) {
    if (e.code != Code::io) throw;
    if (options.log) options.log->line(std::string(e.what()) + "; going on without (--no-cache)");
    return false;
  }
}

// The cache's options with a folder that is there, or nothing.
std::optional<PanelCacheOptions> usable(PanelCacheOptions options, const Model& model, const kn::Exec& exec) {
  const bool wanted = options.use && model.parameters().purpose() == Purpose::inference &&
                      exec.device.kind == kn::DeviceKind::cpu && model.parameters().bytes() >= options.min_bytes;
  if (!wanted) return std::nullopt;
  if (options.folder.empty()) options.folder = default_cache_folder();
  if (options.folder.empty()) return std::nullopt;
  std::error_code ec;
  if (fs::create_directories(options.folder, ec)) fs::permissions(options.folder, fs::perms::owner_all, ec);
  std::string why = ec.message();
  struct stat s {};
  if (!ec && ::stat(options.folder.c_str(), &s) == 0) {
    // Who can write there decides what models answer.
    if (s.st_uid == ::geteuid() && (s.st_mode & (S_IWGRP | S_IWOTH)) == 0) return options;
    why = "others own it or may write to it (chmod 700)";
  }
  if (options.log)
    options.log->line(fmt::format("[cache] {}: {}; going on without (--no-cache)", options.folder.string(), why));
  return std::nullopt;
}

}  // namespace

std::unique_ptr<Model> load_model(const fs::path& folder, Purpose purpose, int64_t context, const kn::Exec& exec,
                                  const PanelCacheOptions& cache) {
  const ModelSpec spec = read_model_spec(folder);
  const TensorStore store(folder);
  check(!spec.quant || purpose == Purpose::inference, Code::unsupported, "[model] ", folder.string(),
        ": quantised weights cannot be trained");
  auto model = plan(spec, store, purpose, context, exec);
  if (const auto options = usable(cache, *model, exec)) {
    if (load_cached(*model, store, *options, exec)) return model;
    model = plan(spec, store, purpose, context, exec);
  }
  model->allocate();
  model->load(store);
  return model;
}

}  // namespace llmctl
