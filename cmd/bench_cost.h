// SPDX-License-Identifier: Apache-2.0
// What a training step, a prefill and a decoding step should cost, from counts of their work.
//
// Work is of eight kinds. A kind takes max(FLOPs / arithmetic rate, bytes / memory rate) plus a fixed time
// for each of its ops; kinds add up, since ops run one after another (the roofline of Williams et al. 2009,
// once for each kind). Counts follow from the shape alone. Rates are the machine's probes times the share of
// them that each kind attains; shares are measured once, on one model at one size (calibrate), and hold
// for every other size, context, batch and thread count.
//
// Counted: matrix elements N, tokens T, a context of T or a depth of d, attention width W, key width K:
//   products            2TN forward and 2TN for dX; the stored weights, read once a pass
//   gradients           2TN for dW; 4 bytes written for each element
//   attention           2T^2W a layer and sequence (causal); decoding 4dW, and 2dK keys and values read
//   attention_backward  5T^2W
//   loss                16 bytes for each token and entry of the vocabulary
//   optimiser           36 bytes for each parameter
//   activations         norms, rotation, SwiGLU, residuals: 8D + 2(W + 2K) + 3I elements of a layer and
//                       token; three times that in training
//   sampling            12 bytes for each entry of the vocabulary and sequence, on one thread
// Not counted: caches other than by the working set that the memory probe is given, part-filled tiles, and
// that attained shares vary with the shape.
#pragma once

#include <array>
#include <string>

#include "core/base/op_times.h"
#include "core/nn/decoder.h"

namespace llmctl {

enum class WorkKind : uint8_t {
  products,
  gradients,
  attention,
  attention_backward,
  loss,
  optimiser,
  activations,
  sampling
};
inline constexpr int kWorkKinds = 8;
const char* name_of(WorkKind kind);

struct Work {
  double flops = 0, bytes = 0, ops = 0;
};
template <class T>
struct PerKind {
  std::array<T, kWorkKinds> values{};
  T& operator[](WorkKind k) { return values[static_cast<size_t>(k)]; }
  const T& operator[](WorkKind k) const { return values[static_cast<size_t>(k)]; }
};
using Cost = PerKind<Work>;

// What the counts need of a model.
struct CostShape {
  double layers = 0, hidden = 0, attention_width = 0, kv_width = 0, intermediate = 0, vocab = 0;
  double matrices = 0;      // elements of the blocks' matrices
  double head = 0;          // elements of the head
  double parameters = 0;    // all that the optimiser updates
  double weight_bytes = 0;  // stored, of blocks and head
};
// weight_bytes: as given, or of bf16 when 0.
CostShape cost_shape(const DecoderConfig& config, const Table& table, double weight_bytes = 0);

// One step over so many sequences of seq tokens, one part.
Cost training_cost(const CostShape& shape, double sequences, double seq);
// A prompt of so many tokens to its first token, taken in pieces.
Cost prefill_cost(const CostShape& shape, double tokens, double piece);
// One step of so many sequences that have `depth` tokens each.
Cost decode_cost(const CostShape& shape, double sequences, double depth);

// The machine on so many threads.
struct Probes {
  double products = 0;    // FLOP/s of the products' dtype
  double flops = 0;       // FLOP/s in bf16: attention
  double bytes = 0;       // bytes/s read, of a working set of this size
  double op_seconds = 0;  // an op without work
};
struct Share {
  double flops = 1, bytes = 1;
};
using Shares = PerKind<Share>;

double seconds_of(const Work& work, WorkKind kind, const Probes& probes, const Share& share);
double seconds_of(const Cost& cost, const Probes& probes, const Shares& shares);

using KindSeconds = PerKind<double>;
// Seconds by kind of ops that were traced; what `wall` has beyond them is the `rest` kind's.
KindSeconds kind_seconds(const OpTimes& times, double wall, WorkKind rest);
// Sets the shares that `measured` shows: of each kind the one, arithmetic or memory, that bounds it.
void calibrate(Shares& shares, const Cost& cost, const KindSeconds& measured, const Probes& probes);

}  // namespace llmctl
