// SPDX-License-Identifier: Apache-2.0
// AttnBwd on the CPU, in f32 and in the order pair. A task is one document and one KV head. It walks
// blocks of 64 keys; for each, the heads of the group and their blocks of queries from the diagonal on.
// dK and dV of a key block are finished in that walk, dQ is carried in fp32 from key block to key block.
// Block sizes change no bit: every chain goes on from memory where the last block left it.
#include "kernels/attention_amx.h"
#include "kernels/attention_document.h"
#include "kernels/math.h"

namespace llmctl::kn {

namespace {

constexpr int64_t kKeys = 64;   // of a key block
constexpr int64_t kSlack = 32;  // words per token after the transposed keys: loads run past a block

// Where things lie in the workspace, in 4-byte words. A document uses the places of its own rows; what a
// key block needs, in chunks the places W that it is given.
struct Layout {
  int64_t delta;   // (T, heads)
  int64_t dq;      // (heads, T, padded D)
  int64_t dk, dv;  // (heads, W, padded D), W being T where documents are whole
  int64_t kt, vt;  // (kv_heads, W, words of D + slack): K and V of a key block, [word of D][key]
  int64_t kp;      // (kv_heads, W, padded D): K of a key block, [word of keys][D]
  int64_t words;
};

constexpr Layout layout_of(DType dtype, int64_t tokens, int64_t work_rows, int64_t heads, int64_t kv_heads,
                           int64_t head_dim) {
  const int64_t padded = vectors_of(head_dim) * 16;
  const int64_t along = dtype == DType::bf16 ? (head_dim + 1) / 2 : head_dim;
  const int64_t rows = heads * work_rows * padded, block = kv_heads * work_rows * (along + kSlack);
  Layout l{};
  l.dq = vectors_of(tokens * heads) * 16;
  l.dk = l.dq + heads * tokens * padded;
  l.dv = l.dk + rows;
  l.kt = l.dv + rows;
  l.vt = l.kt + vectors_of(block) * 16;
  l.kp = l.vt + vectors_of(block) * 16;
  l.words = l.kp + kv_heads * work_rows * padded;
  return l;
}

}  // namespace

#if KN_ONCE
int64_t attn_bwd_workspace(DType dtype, int64_t tokens, int64_t heads, int64_t kv_heads, int64_t head_dim,
                           Bf16Order order, int64_t work_rows) {
  if (dtype == DType::bf16 && order == Bf16Order::amx32)
    return attend_blocks_workspace(tokens, heads, head_dim);
  return layout_of(dtype, tokens, work_rows < 0 ? tokens : work_rows, heads, kv_heads, head_dim).words * 4;
}

void AttnBwd::check() const {
  using llmctl::check;
  const int64_t t = qkv.dim[0], d = qkv.dim[2];
  check(qkv.dtype == DType::f32 || qkv.dtype == DType::bf16, Code::bug, "[attn_bwd] qkv is ",
        name_of(qkv.dtype), ": want f32 or bf16");
  check(heads > 0 && kv_heads > 0 && heads % kv_heads == 0, Code::bug, "[attn_bwd] ", heads,
        " heads do not divide into ", kv_heads, " groups");
  check(qkv.rank == 3 && qkv.dim[1] == heads + 2 * kv_heads, Code::bug, "[attn_bwd] qkv has ", qkv.dim[1],
        " heads: want ", heads + 2 * kv_heads);
  check(d >= 1 && d <= kMaxHeadDim, Code::unsupported, "[attn_bwd] head dimension ", d, " is not in 1..256");
  const int64_t columns = kv ? 6 : 4;
  check(sequences.dtype == DType::i32 && sequences.rank == 2 && sequences.dim[1] == columns, Code::bug,
        "[attn_bwd] sequences are ", name_of(sequences.dtype), " of ", sequences.dim[1],
        " columns: want i32 (S,", columns, ")");
  check(!kv || (kv.dtype == qkv.dtype && kv.rank == 3 && kv.dim[1] == 2 * kv_heads && kv.dim[2] == d), Code::bug,
        "[attn_bwd] kv is ", name_of(kv.dtype), " (R,", kv.dim[1], ",", kv.dim[2], "): want ", name_of(qkv.dtype),
        " (R,", 2 * kv_heads, ",", d, ")");
  check(!kv || (terms.dtype == DType::f32 && terms.size() % (2 * kv_heads * d) == 0 && work_rows >= 0), Code::bug,
        "[attn_bwd] terms are ", terms.size(), " elements of ", name_of(terms.dtype), " with ", work_rows,
        " places in work: want f32 (R,", 2 * kv_heads, ",", d, ") and places");
  for (const View* v : {&out, &dout})
    check(v->dtype == qkv.dtype && v->size() == t * heads * d, Code::bug, "[attn_bwd] out or dout has ",
          v->size(), " elements of ", name_of(v->dtype), ": want ", t * heads * d, " of ",
          name_of(qkv.dtype));
  check(lse.dtype == DType::f32 && lse.size() == t * heads, Code::bug, "[attn_bwd] lse has ", lse.size(),
        " elements: want f32, ", t * heads);
  check(dqkv.dtype == qkv.dtype && dqkv.size() == qkv.size(), Code::bug, "[attn_bwd] dqkv has ", dqkv.size(),
        " elements of ", name_of(dqkv.dtype), ": want ", qkv.size(), " of ", name_of(qkv.dtype));
  const int64_t need = attn_bwd_workspace(qkv.dtype, t, heads, kv_heads, d, order, kv ? work_rows : -1);
  const bool blocks = qkv.dtype == DType::bf16 && order == Bf16Order::amx32;
  check(!blocks || heads / kv_heads <= 128, Code::unsupported, "[attn_bwd] groups of ", heads / kv_heads,
        " heads: the order amx32 takes at most 128");
  check(work.bytes() >= need, Code::bug, "[attn_bwd] work has ", work.bytes(), " bytes: want ", need);
}
#endif

namespace {

// One block of queries of one head, on the stack (at most 60 KiB).
template <class T, int64_t max_dim>
struct QueryBlock {
  static constexpr int64_t kQueries = sizeof(T) == 2 && max_dim <= 128 ? 32 : 16;
  static constexpr int64_t kD = max_dim / kPerWord<T>;  // words between rows of q and g
  static constexpr int64_t kSteps = kQueries / kPerWord<T>;
  static constexpr int64_t kDs = kKeys / kPerWord<T>;      // words between rows of ds
  alignas(64) Word<T> q[kQueries * kD], g[kQueries * kD];  // Q and dO, words along D
  // The same as words along queries, [step][padded D]; in f32 a word is a value: q and g serve.
  alignas(64) Word<T> qp[sizeof(T) == 2 ? kSteps * max_dim : 1], gp[sizeof(T) == 2 ? kSteps * max_dim : 1];
  alignas(64) float s[kQueries * kKeys], dp[kQueries * kKeys];
  alignas(64) Word<T> p[kSteps * kKeys], dst[kSteps * kKeys];  // p and ds as words along queries
  alignas(64) Word<T> ds[kQueries * kDs];                      // ds as words along keys
  float lse[kQueries], delta[kQueries];
  int64_t n;  // queries in the block
};

template <class T>
struct Task : Document<T> {
  using Document<T>::a, Document<T>::seq, Document<T>::kv_head, Document<T>::d, Document<T>::padded;
  int64_t along;  // head dimension in words
  Layout at;
  explicit Task(const Document<T>& document)
      : Document<T>(document),
        along(words_of<T>(d)),
        at(layout_of(a.qkv.dtype, a.qkv.dim[0], this->work_rows(), a.heads, a.kv_heads, d)) {}
  float* dq(int64_t head, int64_t q) const {
    return a.work.template as<float>() + at.dq + (head * this->tokens() + seq.first_row + q) * padded;
  }
  float* place(int64_t base, int64_t head) const {  // of dk, dv
    return a.work.template as<float>() + base + (head * this->work_rows() + seq.first_work) * padded;
  }
  Word<T>* transposed(int64_t base) const {  // of kt, vt
    return a.work.template as<Word<T>>() + base +
           (kv_head * this->work_rows() + seq.first_work) * (along + kSlack);
  }
  Word<T>* paired() const {
    return a.work.template as<Word<T>>() + at.kp + (kv_head * this->work_rows() + seq.first_work) * padded;
  }
};

// Rows a and b as words along rows: (a0,b0), (a1,b1), ...
KN_INLINE void pair_rows(float* to, const float* a, const float*, int64_t padded) {
  for (int64_t i = 0; i < padded; i += 16) store(to + i, load(a + i));
}
KN_INLINE void pair_rows(int32_t* to, const int32_t* a, const int32_t* b, int64_t padded) {
  for (int64_t i = 0; i < padded; i += 16)
    istore(to + i, ior(load_u16(a + i / 2), shl<16>(load_u16(b + i / 2))));
}

template <class T>
void pack_keys(const Task<T>& t, int64_t k0, int64_t n) {
  const int64_t row = t.key_stride(), words = t.padded / kPerWord<T>;
  transpose_rows(t.transposed(t.at.kt), n, t.key(k0, false), row, n, t.d);
  transpose_rows(t.transposed(t.at.vt), n, t.key(k0, true), row, n, t.d);
  alignas(64) Word<T> k[kPerWord<T>][kMaxHeadDim];
  for (int64_t key = 0; key < n; key += kPerWord<T>) {
    for (int64_t e = 0; e < kPerWord<T>; ++e) {
      const bool here = key + e < n;
      copy_words(k[e], here ? t.key(k0 + key + e, false) : nullptr, here ? t.d : 0, words);
    }
    pair_rows(t.paired() + key / kPerWord<T> * t.padded, k[0], k[kPerWord<T> - 1], t.padded);
  }
}

template <class T, int64_t max_dim>
void load_queries(const Task<T>& t, int64_t head, int64_t q0, QueryBlock<T, max_dim>& b) {
  const int64_t words = t.padded / kPerWord<T>;
  b.n = t.seq.queries - q0 < b.kQueries ? t.seq.queries - q0 : b.kQueries;
  for (int64_t r = 0; r < words_of<T>(b.n) * kPerWord<T>; ++r) {
    const bool here = r < b.n;
    const int64_t at = t.Document<T>::at(q0 + r, head);
    copy_words(b.q + r * b.kD, here ? t.row(q0 + r, head) : nullptr, here ? t.d : 0, words);
    copy_words(b.g + r * b.kD, here ? t.dout(q0 + r, head) : nullptr, here ? t.d : 0, words);
    b.lse[r] = here ? t.a.lse.template as<float>()[at] : 0.0f;
    b.delta[r] = here ? t.a.work.template as<float>()[t.at.delta + at] : 0.0f;
  }
  if constexpr (sizeof(T) == 2)
    for (int64_t j = 0; j < words_of<T>(b.n); ++j) {
      pair_rows(b.qp + j * t.padded, b.q + 2 * j * b.kD, b.q + (2 * j + 1) * b.kD, t.padded);
      pair_rows(b.gp + j * t.padded, b.g + 2 * j * b.kD, b.g + (2 * j + 1) * b.kD, t.padded);
    }
}

// Keys of the block seen by some query before the key `end`.
KN_INLINE int64_t seen(int64_t end, int64_t k0, int64_t n) {
  return end - k0 < 0 ? 0 : end - k0 < n ? end - k0 : n;
}

template <class T, int64_t max_dim>
void score(const Task<T>& t, int64_t q0, int64_t k0, int64_t n, QueryBlock<T, max_dim>& b) {
  constexpr int64_t row = QueryBlock<T, max_dim>::kD;
  for (int64_t r = 0; r < b.n; r += 8) {
    const int64_t rows = b.n - r < 8 ? b.n - r : 8, vectors = vectors_of(seen(t.before + q0 + r + rows, k0, n));
    if (vectors == 0) continue;
    Product<Word<T>> p{b.q + r * row, t.transposed(t.at.kt), n, t.along, b.s + r * kKeys, kKeys, false};
    product_strip<Word<T>, row, 1>(p, rows, vectors);
    p.a = b.g + r * row, p.b = t.transposed(t.at.vt), p.out = b.dp + r * kKeys;
    product_strip<Word<T>, row, 1>(p, rows, vectors);
  }
}

KN_INLINE void store_step(float* to, const F32* x) {
  store(to, x[0]);
}
KN_INLINE void store_step(int32_t* to, const F32* x) {
  istore(to, ior(round_bf16(x[0]), shl<16>(round_bf16(x[1]))));
}
KN_INLINE void store_keys(float* to, F32 x) {
  store(to, x);
}
KN_INLINE void store_keys(int32_t* to, F32 x) {
  store_u16(to, round_bf16(x));
}

// p and ds of the block from its scores and dP, masked by +0. own_key: of the first query.
template <class T, int64_t max_dim>
void weigh(float by, int64_t own_key, int64_t k0, int64_t n, QueryBlock<T, max_dim>& b) {
  const F32 scale = set1(by);
  const int64_t columns = vectors_of(seen(own_key + b.n, k0, n)) * 16;
  for (int64_t j = 0; j < words_of<T>(b.n); ++j)
    for (int64_t c = 0; c < columns; c += 16) {
      F32 p[kPerWord<T>], ds[kPerWord<T>];
      for (int64_t e = 0; e < kPerWord<T>; ++e) {
        const int64_t r = j * kPerWord<T> + e, at = r * kKeys + c;
        const int64_t own = r < b.n ? seen(own_key + r + 1, k0, n) - c : 0;
        p[e] = ds[e] = zero();
        if (own > 0) {
          p[e] = math::exp(sub(mul(load(b.s + at), scale), set1(b.lse[r])));
          ds[e] = mul(mul(p[e], sub(load(b.dp + at), set1(b.delta[r]))), scale);
          if (own < 16) p[e] = select(below(own), p[e], zero()), ds[e] = select(below(own), ds[e], zero());
        }
        store_keys(b.ds + r * b.kDs + c / kPerWord<T>, ds[e]);
      }
      store_step(b.p + j * kKeys + c, p);
      store_step(b.dst + j * kKeys + c, ds);
    }
}

// The block's share of dQ, dK and dV.
template <class T, int64_t max_dim>
void add_products(const Task<T>& t, int64_t head, int64_t q0, int64_t k0, int64_t n,
                  QueryBlock<T, max_dim>& b) {
  constexpr bool pairs = sizeof(T) == 2;
  const int64_t vectors = t.padded / 16, steps = words_of<T>(b.n), wide = pairs ? t.padded : b.kD;
  const Word<T>*qp = pairs ? b.qp : b.q, *gp = pairs ? b.gp : b.g;
  for (int64_t k = 0; k < n; k += 8) {
    const int64_t rows = n - k < 8 ? n - k : 8;
    const int64_t first = k0 + k - t.before - q0;  // query that sees these keys
    const int64_t skip = first > 0 ? first / kPerWord<T> : 0;
    if (skip >= steps) break;
    Product<Word<T>> p{b.p + skip * kKeys + k,
                       gp + skip * wide,
                       wide,
                       steps - skip,
                       t.place(t.at.dv, head) + k * t.padded,
                       t.padded,
                       true};
    product_strip<Word<T>, 1, kKeys>(p, rows, vectors);
    p.a = b.dst + skip * kKeys + k, p.b = qp + skip * wide, p.out = t.place(t.at.dk, head) + k * t.padded;
    product_strip<Word<T>, 1, kKeys>(p, rows, vectors);
  }
  for (int64_t r = 0; r < b.n; r += 8) {
    const int64_t rows = b.n - r < 8 ? b.n - r : 8, keys = seen(t.before + q0 + r + rows, k0, n);
    if (keys == 0) continue;
    const Product<Word<T>> p{b.ds + r * b.kDs,
                             t.paired(),
                             t.padded,
                             words_of<T>(keys),
                             t.dq(head, q0 + r),
                             t.padded,
                             k0 > 0};
    product_strip<Word<T>, QueryBlock<T, max_dim>::kDs, 1>(p, rows, vectors);
  }
}

// Heads join like the bits of a counter: equal subtrees merge, what is left folds from the right.
template <class T>
void join_heads(const Task<T>& t, int64_t base, bool value, int64_t k0, int64_t n) {
  const int64_t group = t.group(), first = t.kv_head * group, size = n * t.padded;
  auto merge = [&](int64_t to, int64_t from) {
    float *x = t.place(base, first + to), *y = t.place(base, first + from);
    for (int64_t i = 0; i < size; i += 16) store(x + i, add(load(x + i), load(y + i)));
  };
  for (int64_t width = 1; width < group; width *= 2)
    for (int64_t h = 0; h + 2 * width <= group; h += 2 * width) merge(h, h + width);
  // What is left: one subtree per set bit of the group's size, the smallest last.
  for (int64_t left = group & (group - 1); left > 0; left &= left - 1) merge(left - (left & -left), left);
  for (int64_t k = 0; k < n; ++k) finish_key(t, k0 + k, value, t.place(base, first) + k * t.padded);
}

template <class T, int64_t max_dim>
void key_block(const Task<T>& t, int64_t k0, int64_t n) {
  using Block = QueryBlock<T, max_dim>;
  const int64_t group = t.group(), sees = k0 > t.before ? k0 - t.before : 0;  // the first query that does
  pack_keys(t, k0, n);
  for (int64_t head = t.kv_head * group; head < (t.kv_head + 1) * group; ++head) {
    std::memset(t.place(t.at.dk, head), 0, static_cast<size_t>(n * t.padded) * 4);
    std::memset(t.place(t.at.dv, head), 0, static_cast<size_t>(n * t.padded) * 4);
    for (int64_t q0 = sees / Block::kQueries * Block::kQueries; q0 < t.seq.queries; q0 += Block::kQueries) {
      Block b;
      load_queries(t, head, q0, b);
      score(t, q0, k0, n, b);
      weigh(t.a.scale, t.before + q0, k0, n, b);
      add_products(t, head, q0, k0, n, b);
      for (int64_t q = q0 > sees ? q0 : sees; q < q0 + b.n && t.before + q < k0 + n; ++q)
        finish_row(t.drow(q, head), t.dq(head, q), t.d);  // no later key is seen: dQ is complete
    }
  }
  join_heads(t, t.at.dk, false, k0, n);
  join_heads(t, t.at.dv, true, k0, n);
}

template <class T>
void document(const Task<T>& t) {
  for (int64_t k0 = 0; k0 < t.seq.keys; k0 += kKeys) {
    const int64_t n = t.seq.keys - k0 < kKeys ? t.seq.keys - k0 : kKeys;
    if (t.d <= 64)
      key_block<T, 64>(t, k0, n);
    else if (t.d <= 128)
      key_block<T, 128>(t, k0, n);
    else
      key_block<T, 256>(t, k0, n);
  }
}

template <class T>
void deltas(const AttnBwd& a, const Exec& ex) {
  constexpr int64_t task_rows = 64;
  const int64_t rows = a.qkv.dim[0] * a.heads;
  parallel_for(ex, (rows + task_rows - 1) / task_rows, [&](int64_t task) {
    const int64_t end = (task + 1) * task_rows < rows ? (task + 1) * task_rows : rows;
    for (int64_t r = task * task_rows; r < end; ++r) a.work.as<float>()[r] = row_delta<T>(a, r);
  });
}

template <class T>
void run_backward(const AttnBwd& a, const Exec& ex) {
  deltas<T>(a, ex);
  for_documents<T>(a, ex, [](const Document<T>& task) { document(Task<T>(task)); });
}

}  // namespace

void launch(KN_CPU, const AttnBwd& a, const Exec& ex) {
  if (a.qkv.dtype == DType::bf16 && a.order == Bf16Order::amx32) return attend_blocks(a, ex);
  a.qkv.dtype == DType::f32 ? run_backward<float>(a, ex) : run_backward<bf16_t>(a, ex);
}

}  // namespace llmctl::kn
