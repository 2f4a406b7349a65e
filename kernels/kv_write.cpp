// SPDX-License-Identifier: Apache-2.0
// KvWrite on the CPU: a task is a block of rows and one KV head; runs of consecutive slots go into a
// page together, K transposed.
#include "kernels/attention.h"
#include "kernels/attention_tile.h"
#include "kernels/simd.h"

namespace llmctl::kn {

#if KN_ONCE
void KvWrite::check() const {
  using llmctl::check;
  const int64_t elements = kv_page_elements(qkv.dtype, qkv.dim[2]);
  check(qkv.dtype == DType::f32 || qkv.dtype == DType::bf16, Code::bug, "[kv_write] qkv is ",
        name_of(qkv.dtype), ": want f32 or bf16");
  check(qkv.rank == 3 && kv_heads > 0 && qkv.dim[1] == heads + 2 * kv_heads, Code::bug, "[kv_write] qkv has ",
        qkv.dim[1], " heads: want ", heads + 2 * kv_heads);
  check(slots.dtype == DType::i64 && slots.size() == qkv.dim[0], Code::bug, "[kv_write] ", slots.size(),
        " slots for ", qkv.dim[0], " rows: want i64");
  for (const View* v : {&kv.k, &kv.v})
    check(v->dtype == qkv.dtype && v->rank == 3 && v->dim[1] == kv_heads && v->dim[2] == elements, Code::bug,
          "[kv_write] pages are ", name_of(v->dtype), " (", v->dim[0], ",", v->dim[1], ",", v->dim[2],
          "): want ", name_of(qkv.dtype), " (pages,", kv_heads, ",", elements, ")");
}
#endif

namespace {

constexpr int64_t kTaskRows = 32;

// V rows of `rows` tokens into consecutive slots of a page from `offset` on.
void write_values(float* page, int64_t offset, const float* x, int64_t x_row, int64_t rows, int64_t d) {
  for (int64_t r = 0; r < rows; ++r)
    std::memcpy(page + (offset + r) * d, x + r * x_row, static_cast<size_t>(d) * sizeof(float));
}

void write_values(bf16_t* page, int64_t offset, const bf16_t* x, int64_t x_row, int64_t rows, int64_t d) {
  for (int64_t r = 0; r < rows;) {
    bf16_t* to = page + (offset + r) / 2 * d * 2;
    const bf16_t *a = x + r * x_row, *b = a + x_row;
    int64_t i = 0;
    if ((offset + r) % 2 == 0 && r + 1 < rows) {
      for (; i + 16 <= d; i += 16) istore(to + i * 2, ior(load_u16(a + i), shl<16>(load_u16(b + i))));
      for (; i < d; ++i) to[i * 2] = a[i], to[i * 2 + 1] = b[i];
      r += 2;
      continue;
    }
    // The other half of the words may be another task's: it must not be written, be it with what it holds.
    const bool second = (offset + r) % 2 != 0;
#if KN_ISA >= 2
    for (; i + 16 <= d; i += 16) {
      const I32 mine = load_u16(a + i);
      _mm512_mask_storeu_epi16(to + i * 2, second ? 0xaaaaaaaau : 0x55555555u, second ? shl<16>(mine).v : mine.v);
    }
#endif
    for (; i < d; ++i) to[i * 2 + second] = a[i];
    ++r;
  }
}

// Tokens from t on whose slots follow each other within a page, at most to `end`.
int64_t run_length(const int64_t* slots, int64_t t, int64_t end) {
  int64_t n = 1;
  while (t + n < end && slots[t + n] == slots[t] + n && slots[t + n] % kPageTokens != 0) ++n;
  return n;
}

template <class T>
void write_rows(const KvWrite& w, int64_t t, int64_t end, int64_t kv_head) {
  const int64_t* slots = w.slots.as<int64_t>();
  const int64_t d = w.qkv.dim[2], row = w.qkv.dim[1] * d;
  for (int64_t n; t < end; t += n) {
    n = slots[t] < 0 ? 1 : run_length(slots, t, end);
    if (slots[t] < 0) continue;
    const int64_t page = (slots[t] / kPageTokens * w.kv_heads + kv_head) * kv_page_elements(w.qkv.dtype, d);
    const int64_t offset = slots[t] % kPageTokens;
    const T *k = w.qkv.as<T>() + t * row + (w.heads + kv_head) * d, *v = k + w.kv_heads * d;
    transpose_rows(reinterpret_cast<Word<T>*>(w.kv.k.as<T>() + page) + offset, kPageTokens, k, row, n, d);
    write_values(w.kv.v.as<T>() + page, offset, v, row, n, d);
  }
}

}  // namespace

void launch(KN_CPU, const KvWrite& w, const Exec& ex) {
  const int64_t rows = w.qkv.dim[0], blocks = (rows + kTaskRows - 1) / kTaskRows;
  parallel_for(ex, blocks * w.kv_heads, [&](int64_t task) {
    const int64_t first = task % blocks * kTaskRows,
                  end = first + kTaskRows < rows ? first + kTaskRows : rows;
    w.qkv.dtype == DType::f32 ? write_rows<float>(w, first, end, task / blocks)
                              : write_rows<bf16_t>(w, first, end, task / blocks);
  });
}

}  // namespace llmctl::kn
