// SPDX-License-Identifier: Apache-2.0
// The decoder-only transformer: embedding, pre-norm blocks, final norm. One forward for training,
// evaluation and serving. An architecture (core/models) says which options and which names.
#pragma once

#include <variant>
#include <vector>

#include "core/nn/attention.h"
#include "core/nn/moe.h"
#include "core/nn/norm.h"

namespace llmctl {

struct DecoderConfig {
  int64_t vocab = 0, hidden = 0, layers = 0, heads = 0, kv_heads = 0, head_dim = 0, intermediate = 0;
  int64_t positions = 0;  // longest context
  bool layer_norm = false;  // LayerNorm with biases, else RMSNorm
  float norm_eps = 1e-5f;
  MlpKind mlp = MlpKind::swiglu;
  MoeConfig moe;
  bool learned_positions = false;
  double rope_theta = 10000.0;
  bool head_norms = false;  // RMSNorm of query and key heads before the rotation
  bool qkv_bias = false, output_bias = false, mlp_bias = false;
  bool tied = false;  // the head is the embedding
  float init_std = 0.02f;  // of matrices; what joins the residual stream has init_std / sqrt(2 layers)
  // Leaves of the dimensions that can be sharded (NUMERICS rule 3).
  int leaves_attention = 1, leaves_mlp = 1, leaves_vocab = 1;
  kn::Bf16Order order = kn::Bf16Order::pair;  // of products in bf16

  float residual_init_std() const { return init_std / __builtin_sqrtf(static_cast<float>(2 * layers)); }
  int64_t attention_width() const { return heads * head_dim; }
  int64_t kv_width() const { return kv_heads * head_dim; }
  int64_t padded_vocab() const {
    const int64_t m = 32 * leaves_vocab;
    return (vocab + m - 1) / m * m;
  }
};

struct BlockSaved {  // T: rows of the residual stream at this rank
  View h1, h2;  // normed inputs of attention and MLP
  View mid;     // residual stream between them
  NormSaved norm1, norm2;
  AttentionSaved attention;
  MlpSaved mlp;
};

struct Block {
  Norm norm1, norm2;
  Attention attention;
  std::variant<Mlp, Moe> mlp;

  // `rows` of the residual stream (Ctx::stream_rows). What takes products to compute again ...
  // parts: of the pass, of a training one.
  BlockSaved take_saved(Arena& arena, DType dtype, int64_t tokens, int64_t rows, int64_t hidden, bool training, int64_t parts = 1) const;
  // ... and what does not, added to it: h1 and h2, and the MLP's act.
  void take_norms(Arena& arena, DType dtype, int64_t rows, int64_t hidden, BlockSaved& saved) const;
  void take_activation(Arena& arena, DType dtype, int64_t tokens, BlockSaved& saved) const;
  void forward(Ctx& ctx, const TokenBatch& batch, const RopeTables& rope, int64_t layer, const View& x,
               const View& y, const BlockSaved& saved) const;
  // dx may be dy, unless gradients of weights are put off (Ctx::later).
  void backward(Ctx& ctx, const TokenBatch& batch, const RopeTables& rope, const View& x, const View& dy,
                const BlockSaved& saved, const View& dx) const;
};

// What backward computes again: nothing, the outputs of norms, those of activations as well, or whole
// blocks.
enum class Recompute : uint8_t { none, norms, pointwise, block };

// What a training forward of a run of layers leaves for its backward.
struct DecoderSaved {
  std::vector<View> x;  // residual stream before each block of the run, and after its last
  std::vector<BlockSaved> blocks;
  NormSaved final_norm;
  View hidden;  // (T, D) after the final norm
};

class Decoder {
 public:
  // Structural names looked up in `parameters`: embed, positions, blocks.N.{norm1,qkv,q_norm,k_norm,output,norm2,
  // up,down}[.bias], final_norm[.bias], head; of a layer with experts
  // blocks.N.{router,experts.E.{up,down},shared.{up,down,gate}}.
  Decoder(const DecoderConfig& config, Parameters& parameters);

  const DecoderConfig& config() const { return config_; }
  // Rotary tables for `positions` rows: needed before the first run unless positions are learned.
  void make_rope(Arena& arena, int64_t positions, const kn::Exec& exec);

  // hidden (T,D): the final norm's output, for inference; scratch is given back. In a pipeline each rank
  // computes its layers and passes on what the next wants; the last one has hidden.
  void forward(Ctx& ctx, const TokenBatch& batch, const View& hidden) const;
  // x (T,D): the residual stream before the first layer, here and below the rows of this rank (Ctx::share).
  void embed(Ctx& ctx, const TokenBatch& batch, const View& x) const;
  // The same arithmetic for a run of layers, keeping what backward needs in ctx.kept(), x (their input)
  // among it; after the last layer the final norm too.
  DecoderSaved forward_saving(Ctx& ctx, const TokenBatch& batch, Recompute recompute, const RowRange& layers,
                              const View& x) const;
  // Accumulates the gradients of the weights of these layers. dx (T,D): the gradient of the layers' output
  // (where the last one is among them that of dhidden (T,D), the gradient of saved.hidden, is made first)
  // becomes that of their input.
  void backward(Ctx& ctx, const TokenBatch& batch, const DecoderSaved& saved, const View& dhidden,
                Recompute recompute, const RowRange& layers, const View& dx) const;
  // The gradients of the embeddings, after the head's.
  void backward_embed(Ctx& ctx, const View& ids, const View& positions, const View& dx) const;

  // The weight of the LM head (the embedding when tied).
  WeightState& head() const { return *head_; }
  RowRange all_layers() const { return {0, config_.layers}; }
  const Stages& stages() const { return stages_; }

 private:
  void forward_layers(Ctx& ctx, const TokenBatch& batch, const RowRange& layers, View& x, View& y) const;
  DecoderConfig config_;
  DType dtype_;
  WeightState *embed_, *positions_ = nullptr, *head_;
  std::vector<Block> blocks_;
  Norm final_norm_;
  RopeTables rope_;
  Stages stages_;
};

}  // namespace llmctl
