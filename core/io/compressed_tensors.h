// SPDX-License-Identifier: Apache-2.0
// Group-wise integer weights in the compressed-tensors layout (vllm-project/compressed-tensors):
// config.json's quantization_config with quant_method "compressed-tensors", and for every quantised
// linear W (N,K)
//   8 bit, format "int-quantized":  W.weight int8 (N,K), W.weight_scale (N, K/group)
//   4 bit, format "pack-quantized": W.weight_packed int32 (N, K/8), value i of 8 in bits 4i..4i+3 as
//                                   q + 8, W.weight_scale (N, K/group), W.weight_shape int64 (2)
// Symmetric only. Scales bf16 or f32.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/base/json.h"
#include "core/io/tensor_store.h"

namespace llmctl {

struct QuantScheme {
  int bits = 8;         // 8 or 4
  int64_t group = 128;  // 0: one scale per row
  std::vector<std::string> ignore;  // module names left alone
};

// The scheme in a config.json, or nothing. Error{unsupported} for another method, layout,
// asymmetric or activation-quantised scheme.
std::optional<QuantScheme> read_quant_scheme(const Json& hf, const std::string& who);
Json write_quant_scheme(const QuantScheme& scheme);

// One quantised matrix on the host.
struct QuantMatrix {
  int64_t rows = 0, cols = 0, group = 0;
  int bits = 8;
  std::vector<int8_t> q;     // (rows, cols)
  std::vector<float> scale;  // (rows, ceil(cols / group))
  View q_view() { return View(q.data(), kn::DType::i8, {rows, cols}); }
  View scale_view() { return View(scale.data(), kn::DType::f32, {rows, (cols + group - 1) / group}); }
};
// `module` is the name without ".weight". Checks shapes against (rows, cols).
bool is_quantised(const TensorStore& store, const std::string& module);
QuantMatrix read_quant_matrix(const TensorStore& store, const std::string& module, const QuantScheme& scheme,
                              int64_t rows, int64_t cols);
// The tensors of one matrix as files hold them; scales in bf16 when all of them are exact there, else
// f32.
// Appends to `out`; data lives in `storage`.
struct QuantStorage {
  std::vector<std::vector<std::byte>> blocks;
};
void append_quant_tensors(const std::string& module, const QuantMatrix& m, QuantStorage& storage,
                          std::vector<NamedView>& out);

}  // namespace llmctl
