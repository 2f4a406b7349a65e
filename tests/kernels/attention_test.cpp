// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention.h"

#include <time.h>

#include <cstdio>
#include <numeric>

#include "tests/kernels/attention_reference.h"

using namespace llmctl;
using namespace llmctl::kn;

namespace {

// Documents of given lengths, one after the other in qkv, with a page pool in shuffled order whose
// unwritten slots are NaN.
struct Batch {
  HeadShape h;
  Kind kind;
  DType dtype;
  std::vector<int64_t> lengths;
  int64_t tokens, pages = 0;
  float scale;
  Buffer qkv, out, lse;
  std::unique_ptr<Buffer> k, v, table, whole, slots;

  Batch(HeadShape shape, Kind how, std::vector<int64_t> docs, uint64_t seed = 1)
      : h(shape),
        kind(how),
        dtype(how.dtype),
        lengths(std::move(docs)),
        tokens(std::accumulate(lengths.begin(), lengths.end(), int64_t{0})),
        scale(1.0f / std::sqrt(static_cast<float>(h.dim))),
        qkv(dtype, {tokens, h.total(), h.dim}),
        out(dtype, {tokens, h.heads, h.dim}),
        lse(DType::f32, {tokens, h.heads}) {
    qkv.fill(seed, 1.5);
    for (int64_t n : lengths) pages += (n + kPageTokens - 1) / kPageTokens;
    const int64_t elements = kv_page_elements(dtype, h.dim),
                  docs_count = static_cast<int64_t>(lengths.size());
    k = std::make_unique<Buffer>(dtype, std::initializer_list<int64_t>{pages, h.kv_heads, elements});
    v = std::make_unique<Buffer>(dtype, std::initializer_list<int64_t>{pages, h.kv_heads, elements});
    table = std::make_unique<Buffer>(DType::i32, std::initializer_list<int64_t>{pages});
    whole = std::make_unique<Buffer>(DType::i32, std::initializer_list<int64_t>{docs_count, 4});
    slots = std::make_unique<Buffer>(DType::i64, std::initializer_list<int64_t>{tokens});
    place(seed);
  }
  KvPages kv() const { return {*k, *v}; }

  void place(uint64_t seed) {
    for (int64_t p = 0; p < pages; ++p) table->as<int32_t>()[p] = static_cast<int32_t>(p);
    for (int64_t p = pages - 1; p > 0; --p)
      std::swap(
          table->as<int32_t>()[p],
          table->as<int32_t>()[test_bits(seed, static_cast<uint64_t>(p)) % static_cast<uint64_t>(p + 1)]);
    int64_t row = 0, page = 0, doc = 0;
    for (int64_t n : lengths) {
      set_sequence(*whole, doc++, row, n, n, page);
      for (int64_t t = 0; t < n; ++t)
        slots->as<int64_t>()[row + t] =
            table->as<int32_t>()[page + t / kPageTokens] * kPageTokens + t % kPageTokens;
      row += n;
      page += (n + kPageTokens - 1) / kPageTokens;
    }
  }
  static void set_sequence(Buffer& to, int64_t s, int64_t row, int64_t queries, int64_t keys, int64_t page) {
    const int64_t values[4] = {row, queries, keys, page};
    for (int64_t i = 0; i < 4; ++i) to.as<int32_t>()[s * 4 + i] = static_cast<int32_t>(values[i]);
  }
  void write(const Exec& ex) {
    k->poison();
    v->poison();
    run(KvWrite{.qkv = qkv, .heads = h.heads, .kv_heads = h.kv_heads, .slots = *slots, .kv = kv()}, ex);
  }
  AttnFwd forward() const {
    return {.qkv = qkv,
            .heads = h.heads,
            .kv_heads = h.kv_heads,
            .kv = kv(),
            .sequences = *whole,
            .page_table = *table,
            .scale = scale,
            .out = out,
            .lse = lse,
            .order = kind.order};
  }
};

Exec best(int threads = 1) {
  return test_exec(supported_isas().front(), threads);
}

std::string bytes_of(const Buffer& b) {
  return {b.as<char>(), static_cast<size_t>(b.bytes())};
}

Gradients reference(const Batch& b, const Buffer* dout = nullptr) {
  Gradients g;
  g.out.resize(static_cast<size_t>(b.out.size()));
  g.lse.resize(static_cast<size_t>(b.lse.size()));
  g.dqkv.resize(static_cast<size_t>(b.qkv.size()));
  int64_t row = 0;
  for (int64_t n : b.lengths) {
    reference_document(b.h, b.qkv, dout, row, n, static_cast<double>(b.scale), g);
    row += n;
  }
  return g;
}

struct Backward {
  const Batch& b;
  Buffer dout, dqkv, work;
  explicit Backward(const Batch& batch)
      : b(batch),
        dout(b.dtype, {b.tokens, b.h.heads, b.h.dim}),
        dqkv(b.dtype, {b.tokens, b.h.total(), b.h.dim}),
        work(DType::u8,
             {attn_bwd_workspace(b.dtype, b.tokens, b.h.heads, b.h.kv_heads, b.h.dim, b.kind.order)}) {
    dout.fill(77);
  }
  AttnBwd op() const {
    return {.qkv = b.qkv,
            .heads = b.h.heads,
            .kv_heads = b.h.kv_heads,
            .sequences = *b.whole,
            .scale = b.scale,
            .out = b.out,
            .lse = b.lse,
            .dout = dout,
            .dqkv = dqkv,
            .work = work,
            .order = b.kind.order};
  }
};

const std::vector<std::pair<HeadShape, std::vector<int64_t>>> kShapes = {
    {{2, 2, 8}, {1, 2, 31}},    {{2, 1, 16}, {32, 33}}, {{4, 1, 48}, {65, 3}}, {{8, 1, 64}, {40}},
    {{3, 1, 64}, {255, 256}},   {{2, 2, 80}, {257}},    {{6, 2, 128}, {70}},   {{1, 1, 256}, {130}},
    {{7, 1, 24}, {9, 1, 1, 5}}, {{1, 1, 64}, {700}},    {{4, 1, 5}, {65, 64}}, {{3, 3, 32}, {96, 31}},
    {{4, 1, 128}, {290}},
};

}  // namespace

TEST_CASE("attention forward and backward agree with f64 and have the same bits everywhere", "[attention]") {
  for (const auto& [shape, lengths] : kShapes)
    for (const Kind& kind : kKinds) {
      CAPTURE(shape.heads, shape.kv_heads, shape.dim, lengths, name_of(kind.dtype), name_of(kind.order));
      Batch b(shape, kind, lengths);
      const bool exact = kind.dtype == DType::f32;
      b.write(best());
      check_same_bits(b.forward(), {&b.out, &b.lse});
      Backward back(b);
      const Gradients want = reference(b, &back.dout);
      check_close(b.out, want.out, exact ? 5e-6 : 2e-2);
      check_close(b.lse, want.lse, exact ? 2e-6 : 1e-5);
      check_same_bits(back.op(), {&back.dqkv, &back.work});
      check_close(back.dqkv, want.dqkv, exact ? 2e-5 : 5e-2);
    }
}

TEST_CASE("attention forward has the bits its header spells out", "[attention]") {
  for (const Kind& kind : kKinds)
    for (int64_t dim : {5, 15, 32, 64, 80}) {
      const HeadShape h{2, 1, dim};
      const int64_t doc = 530;
      Batch b(h, kind, {3, doc});
      b.write(best());
      run(b.forward(), best());
      for (int64_t q : {0, 1, 30, 32, 63, 254, 255, 256, 300, 512, 529})
        for (int64_t head = 0; head < 2; ++head) {
          CAPTURE(name_of(kind.dtype), name_of(kind.order), dim, q, head);
          float lse = 0;
          const std::vector<float> want = contract_row(h, kind, b.qkv, 3, q, head, b.scale, lse);
          const int64_t at = (3 + q) * 2 + head;
          bool same = b.lse.as<float>()[at] == lse;
          for (int64_t i = 0; i < dim; ++i) {
            const float w = want[static_cast<size_t>(i)];
            const double expected = kind.dtype == DType::f32 ? w : test_widen(test_narrow(w));
            same = same && b.out.at(at * dim + i) == expected;
          }
          REQUIRE(same);
        }
    }
}

TEST_CASE("attention backward has the bits its header spells out", "[attention]") {
  for (const Kind& kind : kKinds)
    for (const HeadShape& h :
         {HeadShape{3, 1, 32}, HeadShape{2, 2, 64}, HeadShape{4, 1, 5}, HeadShape{1, 1, 80}})
      for (int64_t n : {1, 33, 97, 130}) {
        CAPTURE(name_of(kind.dtype), name_of(kind.order), h.heads, h.dim, n);
        Batch b(h, kind, {3, n});
        b.write(best());
        run(b.forward(), best());
        Backward back(b);
        run(back.op(), best());
        const std::vector<float> want =
            contract_gradients(h, kind, b.qkv, b.out, b.lse, back.dout, 3, n, b.scale, {n});
        int64_t wrong = 0;
        for (size_t i = 0; i < want.size(); ++i) {
          const double expected = kind.dtype == DType::f32 ? want[i] : test_widen(test_narrow(want[i]));
          wrong += back.dqkv.at(3 * h.total() * h.dim + static_cast<int64_t>(i)) != expected;
        }
        REQUIRE(wrong == 0);
      }
}

TEST_CASE("training, prefill in pieces, decode and a batch of 16 have the same bits", "[attention]") {
  for (const Kind& kind : kKinds)
    for (HeadShape h :
         {HeadShape{4, 2, 64}, HeadShape{3, 1, 40}, HeadShape{2, 2, 17}, HeadShape{4, 1, 128}}) {
      CAPTURE(name_of(kind.dtype), name_of(kind.order), h.heads, h.dim);
      const int64_t n = 300;
      Batch b(h, kind, {n}, 5);
      b.write(best());
      run(b.forward(), best());
      const std::string out = bytes_of(b.out), lse = bytes_of(b.lse);
      for (int64_t piece : {1, 7, 64}) {
        b.k->poison(), b.v->poison(), b.out.poison(), b.lse.poison();
        for (int64_t from = 0; from < n; from += piece) {
          const int64_t count = std::min(piece, n - from);
          Buffer one(DType::i32, {1, 4});
          Batch::set_sequence(one, 0, from, count, from + count, 0);
          Buffer slots(DType::i64, {n});  // only this piece's tokens reach the cache
          for (int64_t t = 0; t < n; ++t)
            slots.as<int64_t>()[t] = t >= from && t < from + count ? b.slots->as<int64_t>()[t] : -1;
          run(KvWrite{.qkv = b.qkv, .heads = h.heads, .kv_heads = h.kv_heads, .slots = slots, .kv = b.kv()},
              best());
          AttnFwd op = b.forward();
          op.sequences = one;
          run(op, best());
        }
        const bool same = out == bytes_of(b.out) && lse == bytes_of(b.lse);
        CAPTURE(piece);
        REQUIRE(same);
      }
      // Sixteen sequences at once: the same document behind 15 others of other lengths.
      std::vector<int64_t> lengths;
      for (int64_t i = 0; i < 15; ++i) lengths.push_back(1 + 13 * i);
      lengths.push_back(n);
      Batch crowd(h, kind, lengths, 9);
      std::memcpy(crowd.qkv.as<char>() + crowd.qkv.bytes() - b.qkv.bytes(), b.qkv.as<char>(),
                  static_cast<size_t>(b.qkv.bytes()));
      crowd.write(best(2));
      run(crowd.forward(), best(2));
      const std::string all = bytes_of(crowd.out), all_lse = bytes_of(crowd.lse);
      const bool same =
          all.substr(all.size() - out.size()) == out && all_lse.substr(all_lse.size() - lse.size()) == lse;
      REQUIRE(same);
    }
}

TEST_CASE("gradients of documents packed in a row are those of each alone", "[attention]") {
  for (const Kind& kind : kKinds) {
    const DType dtype = kind.dtype;
    const HeadShape h{4, 2, 32};
    Batch packed(h, kind, {33, 1, 90, 7, 64}, 3);
    packed.write(best());
    run(packed.forward(), best());
    Backward back(packed);
    run(back.op(), best(2));
    int64_t row = 0;
    for (int64_t n : packed.lengths) {
      Batch alone(h, kind, {n});
      std::memcpy(alone.qkv.as<char>(), packed.qkv.as<char>() + row * h.total() * h.dim * size_of(dtype),
                  static_cast<size_t>(alone.qkv.bytes()));
      alone.write(best());
      run(alone.forward(), best());
      Backward own(alone);
      std::memcpy(own.dout.as<char>(), back.dout.as<char>() + row * h.heads * h.dim * size_of(dtype),
                  static_cast<size_t>(own.dout.bytes()));
      run(own.op(), best());
      const bool same =
          std::memcmp(own.dqkv.as<char>(), back.dqkv.as<char>() + row * h.total() * h.dim * size_of(dtype),
                      static_cast<size_t>(own.dqkv.bytes())) == 0;
      CAPTURE(n, name_of(dtype), name_of(kind.order));
      REQUIRE(same);
      row += n;
    }
  }
}

TEST_CASE("attention gradients are the slopes of the forward", "[attention]") {
  Batch b({2, 1, 6}, {DType::f32}, {5, 3}, 11);
  b.write(best());
  run(b.forward(), best());
  Backward back(b);
  run(back.op(), best());
  auto loss = [&] {  // in f64, so that the difference quotient is good to 1e-7
    double sum = 0;
    const Gradients g = reference(b);
    for (size_t i = 0; i < g.out.size(); ++i) sum += g.out[i] * back.dout.at(static_cast<int64_t>(i));
    return sum;
  };
  std::vector<double> slope;
  for (int64_t i = 0; i < b.qkv.size(); ++i) {
    const double x = b.qkv.at(i);
    b.qkv.set(i, x + 1e-3);
    const double x_up = b.qkv.at(i), up = loss();
    b.qkv.set(i, x - 1e-3);
    const double x_down = b.qkv.at(i), down = loss();
    b.qkv.set(i, x);
    slope.push_back((up - down) / (x_up - x_down));
  }
  check_close(back.dqkv, slope, 2e-5);
}

TEST_CASE("kv_write fills pages in the layout of the header", "[attention]") {
  for (DType dtype : {DType::f32, DType::bf16})
    for (int64_t d : {5, 8}) {
      Batch b({1, 2, d}, {dtype}, {35, 2});
      b.slots->as<int64_t>()[1] = -1;
      check_same_bits(KvWrite{.qkv = b.qkv, .heads = 1, .kv_heads = 2, .slots = *b.slots, .kv = b.kv()},
                      {b.k.get(), b.v.get()});
      const int64_t elements = kv_page_elements(dtype, d);
      const bool pairs = dtype == DType::bf16;
      for (int64_t t = 0; t < b.tokens; ++t)
        for (int64_t head = 0; head < 2 && t != 1; ++head)
          for (int64_t i = 0; i < d; ++i) {
            const int64_t slot = b.slots->as<int64_t>()[t], o = slot % 32;
            const int64_t page = (slot / 32 * 2 + head) * elements;
            const double k = b.k->at(page + (pairs ? (i / 2 * 32 + o) * 2 + i % 2 : i * 32 + o));
            const double v = b.v->at(page + (pairs ? (o / 2 * d + i) * 2 + o % 2 : o * d + i));
            REQUIRE(k == b.qkv.at((t * 5 + 1 + head) * d + i));
            REQUIRE(v == b.qkv.at((t * 5 + 3 + head) * d + i));
          }
      REQUIRE(std::isnan(b.k->at((b.slots->as<int64_t>()[0] / 32 * 2 * elements) + (pairs ? 2 : 1))));
    }
}

TEST_CASE("attention refuses shapes that disagree", "[attention]") {
  Batch b({4, 2, 16}, {DType::f32}, {4});
  AttnFwd a = b.forward();
  a.heads = 3;
  REQUIRE_THROWS_AS(run(a, best()), Error);
  a = b.forward();
  a.kv.v.dtype = DType::bf16;
  REQUIRE_THROWS_AS(run(a, best()), Error);
  Backward back(b);
  AttnBwd w = back.op();
  w.work.dim[0] -= 1;
  REQUIRE_THROWS_AS(run(w, best()), Error);
}

// Of this thread, so that neighbours on a shared machine count less.
double cpu_seconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

TEST_CASE("attention speed", "[.bench]") {
  const Exec ex = best();
  for (const Kind& kind : kKinds)
    for (HeadShape h :
         {HeadShape{12, 12, 64}, HeadShape{12, 4, 64}, HeadShape{8, 8, 128}, HeadShape{8, 8, 32}})
      for (int64_t n : {64, 128, 256, 1024}) {
        Batch b(h, kind, std::vector<int64_t>(static_cast<size_t>(1024 / n), n));
        Backward back(b);
        auto seconds = [&](auto&& op) {
          double fastest = 1e9;
          for (int i = 0; i < 5; ++i) {
            const double t0 = cpu_seconds();
            op();
            fastest = std::min(fastest, cpu_seconds() - t0);
          }
          return fastest;
        };
        const double w = seconds([&] { b.write(ex); });
        const double f = seconds([&] { run(b.forward(), ex); }), r = seconds([&] { run(back.op(), ex); });
        // Multiply-adds of the unmasked half.
        const double flop = 2.0 * static_cast<double>(h.heads * h.dim * b.tokens * (n + 1));
        std::printf(
            "%s %s heads %2ld/%2ld D %3ld T %4ld: write %.2f ms, forward %.1f, backward %.1f GFLOP/s\n",
            name_of(kind.dtype), name_of(kind.order), static_cast<long>(h.heads),
            static_cast<long>(h.kv_heads), static_cast<long>(h.dim), static_cast<long>(n), w * 1e3,
            flop / f / 1e9, flop * 2.5 / r / 1e9);
      }
}
