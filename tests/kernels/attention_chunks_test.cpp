// SPDX-License-Identifier: Apache-2.0
// Attention's backward by chunks of documents: against the order that the contract spells out, and f64.
#include "kernels/attention.h"
#include "kernels/chunks.h"
#include "tests/kernels/attention_reference.h"

using namespace llmctl;
using namespace llmctl::kn;

namespace {

// Documents of one row, which is cut into equal chunks. "Natural" rows are in the row's order; those of
// the op lie the last chunk first, so that nothing depends on chunks being neighbours.
struct ChunkedRow {
  HeadShape h;
  Kind kind;
  std::vector<int64_t> lengths;
  int64_t chunks, tokens = 0, slice, work_rows = 0, term_rows = 0;
  float scale;
  std::vector<int32_t> sequences;  // rows of six
  Buffer natural, natural_out, natural_lse, natural_dout;
  Buffer qkv, out, lse, dout, kv;
  Gradients want;

  static int64_t sum(const std::vector<int64_t>& v) {
    int64_t n = 0;
    for (const int64_t x : v) n += x;
    return n;
  }
  ChunkedRow(HeadShape shape, Kind how, std::vector<int64_t> docs, int64_t c)
      : h(shape),
        kind(how),
        lengths(std::move(docs)),
        chunks(c),
        tokens(sum(lengths)),
        slice(tokens / c),
        scale(1.0f / std::sqrt(static_cast<float>(h.dim))),
        natural(how.dtype, {tokens, h.total(), h.dim}),
        natural_out(how.dtype, {tokens, h.heads, h.dim}),
        natural_lse(DType::f32, {tokens, h.heads}),
        natural_dout(how.dtype, {tokens, h.heads, h.dim}),
        qkv(how.dtype, {tokens, h.total(), h.dim}),
        out(how.dtype, {tokens, h.heads, h.dim}),
        lse(DType::f32, {tokens, h.heads}),
        dout(how.dtype, {tokens, h.heads, h.dim}),
        kv(how.dtype, {tokens, 2 * h.kv_heads, h.dim}) {
    natural.fill(5, 1.5);
    natural_dout.fill(77);
    attend();
    for (int64_t t = 0; t < tokens; ++t)
      for (const auto& [from, to] : {std::pair{&natural, &qkv}, {&natural_out, &out}, {&natural_lse, &lse}, {&natural_dout, &dout}}) {
        const int64_t width = from->bytes() / tokens;
        std::memcpy(to->as<char>() + row_of(t) * width, from->as<char>() + t * width, static_cast<size_t>(width));
      }
    run(CopyHeads{.x = natural, .from = {}, .first = h.heads, .y = kv}, test_exec(supported_isas().front()));
    cut();
  }
  int64_t row_of(int64_t t) const { return (chunks - 1 - t / slice) * slice + t % slice; }
  void attend() {
    want.out.resize(static_cast<size_t>(natural_out.size()));
    want.lse.resize(static_cast<size_t>(natural_lse.size()));
    want.dqkv.resize(static_cast<size_t>(natural.size()));
    int64_t row = 0;
    for (const int64_t n : lengths) {
      reference_document(h, natural, &natural_dout, row, n, static_cast<double>(scale), want);
      row += n;
    }
    for (int64_t i = 0; i < natural_out.size(); ++i) natural_out.set(i, want.out[static_cast<size_t>(i)]);
    for (int64_t i = 0; i < natural_lse.size(); ++i) natural_lse.set(i, want.lse[static_cast<size_t>(i)]);
  }
  // Ends of the document's chunks within it; a chunk it is not in is empty.
  std::vector<int64_t> ends(int64_t first, int64_t n) const {
    std::vector<int64_t> e;
    for (int64_t c = 1; c <= chunks; ++c) e.push_back(std::clamp<int64_t>(c * slice - first, 0, n));
    return e;
  }
  void cut() {
    int64_t first = 0;
    for (const int64_t n : lengths) {
      int64_t begin = 0;
      for (const int64_t end : ends(first, n)) {
        if (end > begin)
          for (const int64_t x : {row_of(first + begin), end - begin, end, first, term_rows, work_rows})
            sequences.push_back(static_cast<int32_t>(x));
        if (end > begin) term_rows += end, work_rows += std::min(end, kWorkKeys);
        begin = end;
      }
      first += n;
    }
  }
  // What of terms joins for each row, in zigzag order.
  std::vector<int32_t> from() const {
    std::vector<int32_t> rows(static_cast<size_t>(tokens * chunks), -1);
    for (size_t s = 0; s < sequences.size(); s += 6) {
      const int64_t first = sequences[s + 3], keys = sequences[s + 2], last = first + keys - 1, chunk = last / slice;
      const int64_t place = chunk < (chunks + 1) / 2 ? 2 * chunk : 2 * (chunks - 1 - chunk) + 1;
      for (int64_t k = 0; k < keys; ++k)
        rows[static_cast<size_t>(row_of(first + k) * chunks + place)] = static_cast<int32_t>(sequences[s + 4] + k);
    }
    return rows;
  }
};

void fill(Buffer& to, const std::vector<int32_t>& values) {
  std::copy(values.begin(), values.end(), to.as<int32_t>());
}

const std::vector<std::vector<int64_t>> kRows = {{64}, {1, 2, 61}, {33, 31}, {3, 129, 1, 91}};

}  // namespace

TEST_CASE("attention backward by chunks has the bits its header spells out", "[attention]") {
  for (const Kind& kind : kKinds)
    for (const HeadShape& h : {HeadShape{3, 1, 32}, HeadShape{2, 2, 64}, HeadShape{4, 1, 5}, HeadShape{4, 2, 80}})
      for (const std::vector<int64_t>& lengths : kRows)
        for (const int64_t chunks : {1, 2, 4, 8}) {
          CAPTURE(name_of(kind.dtype), name_of(kind.order), h.heads, h.dim, lengths, chunks);
          ChunkedRow b(h, kind, lengths, chunks);
          const int64_t rows = static_cast<int64_t>(b.sequences.size()) / 6;
          Buffer sequences(DType::i32, {rows, 6}), from(DType::i32, {b.tokens, chunks});
          Buffer terms(DType::f32, {b.term_rows, 2 * h.kv_heads, h.dim}), dqkv(kind.dtype, {b.tokens, h.total(), h.dim});
          Buffer work(DType::u8, {attn_bwd_workspace(kind.dtype, b.tokens, h.heads, h.kv_heads, h.dim, kind.order, b.work_rows)});
          fill(sequences, b.sequences);
          fill(from, b.from());
          const AttnBwd op{.qkv = b.qkv, .heads = h.heads, .kv_heads = h.kv_heads, .sequences = sequences,
                           .scale = b.scale, .out = b.out, .lse = b.lse, .dout = b.dout, .dqkv = dqkv, .work = work,
                           .order = kind.order, .kv = b.kv, .terms = terms, .work_rows = b.work_rows};
          if (chunks == 4 && h.dim != 64)
            check_same_bits(op, {&dqkv, &terms, &work});
          else
            dqkv.poison(), terms.poison(), run(op, test_exec(supported_isas().front(), 2));
          REQUIRE(terms.fences_hold());
          const JoinTerms join{.terms = terms, .from = from, .y = dqkv, .first = h.heads};
          check_same_bits(join, {}, {&dqkv});
          int64_t first = 0, wrong = 0;
          for (const int64_t n : lengths) {
            const std::vector<float> want = contract_gradients(h, kind, b.natural, b.natural_out, b.natural_lse,
                                                               b.natural_dout, first, n, b.scale, b.ends(first, n));
            const int64_t width = h.total() * h.dim;
            for (int64_t i = 0; i < n * width; ++i) {
              const float w = want[static_cast<size_t>(i)];
              const double expected = kind.dtype == DType::f32 ? w : test_widen(test_narrow(w));
              wrong += dqkv.at(b.row_of(first + i / width) * width + i % width) != expected;
            }
            first += n;
          }
          REQUIRE(wrong == 0);
          std::vector<double> close(b.want.dqkv.size());
          const int64_t width = h.total() * h.dim;
          for (int64_t i = 0; i < dqkv.size(); ++i)
            close[static_cast<size_t>(b.row_of(i / width) * width + i % width)] = b.want.dqkv[static_cast<size_t>(i)];
          check_close(dqkv, close, kind.dtype == DType::f32 ? 2e-5 : 5e-2);
        }
}

TEST_CASE("copy_heads moves the heads of rows", "[attention]") {
  for (DType dtype : {DType::f32, DType::bf16}) {
    Buffer x(dtype, {4, 5, 7}), from(DType::i32, {3}), y(dtype, {3, 2, 7});
    x.fill(3);
    fill(from, {2, 0, 2});
    check_same_bits(CopyHeads{.x = x, .from = from, .first = 3, .y = y}, {&y});
    for (int64_t i = 0; i < y.size(); ++i)
      REQUIRE(y.at(i) == x.at((from.as<int32_t>()[i / 14] * 5 + 3) * 7 + i % 14));
    CopyHeads wrong{.x = x, .from = from, .first = 4, .y = y};
    REQUIRE_THROWS_AS(run(wrong, test_exec(supported_isas().front())), Error);
  }
}

TEST_CASE("join_terms is the balanced tree, absent terms being +0", "[attention]") {
  Buffer terms(DType::f32, {5, 1, 3}), from(DType::i32, {2, 4}), y(DType::f32, {2, 2, 3});
  terms.fill(9);
  fill(from, {4, -1, 0, 2, -1, -1, -1, -1});
  y.fill(1);
  const double before = y.at(0);
  check_same_bits(JoinTerms{.terms = terms, .from = from, .y = y, .first = 1}, {}, {&y});
  REQUIRE(y.at(0) == before);
  const float* t = terms.as<float>();
  for (int64_t i = 0; i < 3; ++i) {
    REQUIRE(y.as<float>()[3 + i] == t[12 + i] + (t[i] + t[6 + i]));
    REQUIRE(y.as<float>()[9 + i] == 0.0f);
  }
}
