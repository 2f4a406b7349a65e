// SPDX-License-Identifier: Apache-2.0
// What the contract asks of a device beyond each op's own cases: rows that do not depend on their
// neighbours, chains that may pause. Runs with LLMCTL_TEST_DEVICE=cuda (device_checks.h).
#include <numeric>

#include "kernels/attention.h"
#include "kernels/gemm.h"
#include "tests/kernels/op_check.h"

using namespace llmctl::kn;

namespace {

// What op leaves in `output` on the device.
template <class Op>
std::string bytes_on_device(const Op& op, const Buffer& output) {
  OnDevice<Op> there(op, *device_under_test());
  const std::string whole = there.run_once()[output.memory()];
  return whole.substr(64, static_cast<size_t>(output.bytes()));
}

View rows(const Buffer& b, int64_t begin, int64_t count) {
  const View& v = b.view();
  return View(b.as<char>() + begin * v.cols() * size_of(v.dtype), v.dtype, {count, v.cols()});
}

}  // namespace

TEST_CASE("on a device a row of a product is the same alone and in any crowd", "[device]") {
  if (!device_under_test()) return;
  for (const int leaves : {1, 4})
    for (const auto& [n, k] : {std::pair<int64_t, int64_t>{200, 264}, {48, 1000}, {17, 40}}) {
      const int64_t m = 150;
      INFO(m << " x " << n << " x " << k << ", " << leaves << " leaves");
      Buffer x(DType::bf16, {m, k}), w(DType::bf16, {n, k}), p(DType::bf16, {panel_elements(DType::bf16, k, n)});
      Buffer y(DType::bf16, {m, n});
      x.fill(1), w.fill(2);
      run(PackPanels{.src = w, .panels = p, .panels_t = {}}, test_exec(supported_isas()[0]));
      Gemm op{.x = x, .w = p, .y = y, .n = n, .leaves = leaves_of(k, leaves)};
      check_same_bits(op, {&y});  // on the CPU, and near that on the device
      const std::string all = bytes_on_device(op, y);
      for (const auto& [begin, count] : {std::pair<int64_t, int64_t>{0, 1}, {149, 1}, {3, 16}, {7, 33}, {20, 129}}) {
        op.x = rows(x, begin, count), op.y = rows(y, begin, count);
        y.poison();
        const std::string some = bytes_on_device(op, y);
        const auto at = static_cast<size_t>(begin * n * 2), size = static_cast<size_t>(count * n * 2);
        const bool same = all.compare(at, size, some, at, size) == 0;
        INFO("rows " << begin << " + " << count);
        CHECK(same);
      }
    }
}

TEST_CASE("on a device a weight gradient in pieces is the whole one", "[device]") {
  if (!device_under_test()) return;
  const int64_t n = 136, k = 144;
  for (const int64_t seq : {64, 37})
    for (const bool only : {true, false}) {
      INFO("sequences of " << seq << ", only " << only);
      const int64_t tokens = 4 * seq;
      Buffer dy(DType::bf16, {tokens, n}), x(DType::bf16, {tokens, k}), chain(DType::f32, {n, k});
      Buffer grad(only ? DType::f32 : DType::i64, {n, k}), overflow(DType::i32, {1});
      Buffer work(DType::u8, {std::max<int64_t>(1, gemm_dw_workspace(DType::bf16, tokens, seq, n, k))});
      dy.fill(1), x.fill(2), grad.zero(), overflow.zero();
      GemmDw op{.dy = dy, .x = x, .seq = seq, .chain = chain, .grad = grad, .only = only, .overflow = overflow, .work = work};
      check_same_bits(op, {}, {&grad, &overflow});
      grad.zero();
      const std::string whole = bytes_on_device(op, grad);
      for (int64_t begin = 0; begin < tokens; begin += seq) {
        op.dy = rows(dy, begin, seq), op.x = rows(x, begin, seq);
        op.resume = begin > 0, op.pause = begin + seq < tokens;
        const std::string now = bytes_on_device(op, op.pause ? chain : grad);
        std::memcpy((op.pause ? chain : grad).view().data, now.data(), now.size());
      }
      const bool same = std::memcmp(whole.data(), grad.as<char>(), whole.size()) == 0;
      CHECK(same);
    }
}

TEST_CASE("on a device a query is the same in training, in a piece of a prefill, and decoded alone", "[device]") {
  if (!device_under_test()) return;
  const int64_t t = 333, heads = 4, kv_heads = 2, pages = 11;
  for (const int64_t d : {32, 64, 96, 128}) {
    const int64_t page = kv_page_elements(DType::bf16, d);
    Buffer qkv(DType::bf16, {t, heads + 2 * kv_heads, d}), out(DType::bf16, {t, heads, d}), lse(DType::f32, {t, heads});
    Buffer k(DType::bf16, {pages, kv_heads, page}), v(DType::bf16, {pages, kv_heads, page});
    Buffer slots(DType::i64, {t}), table(DType::i32, {pages}), sequences(DType::i32, {1, 4});
    qkv.fill(1, 1.5), k.poison(), v.poison();  // stale slots are NaN
    std::iota(slots.as<int64_t>(), slots.as<int64_t>() + t, 0);
    std::iota(table.as<int32_t>(), table.as<int32_t>() + pages, 0);
    run(KvWrite{.qkv = qkv, .heads = heads, .kv_heads = kv_heads, .slots = slots, .kv = {k, v}},
        test_exec(supported_isas()[0]));
    const AttnFwd op{.qkv = qkv, .heads = heads, .kv_heads = kv_heads, .kv = {k, v}, .sequences = sequences,
                     .page_table = table, .scale = 0.125f, .out = out, .lse = lse};
    std::string whole;
    for (const auto& [queries, keys] : {std::pair<int64_t, int64_t>{t, t}, {1, t}, {33, t}, {1, 256}, {1, 257}, {70, 130}}) {
      INFO("D " << d << ", " << queries << " queries of " << keys << " keys");
      const int64_t row[] = {keys - queries, queries, keys, 0};
      for (int64_t i = 0; i < 4; ++i) sequences.set(i, static_cast<double>(row[i]));
      out.poison();
      const std::string some = bytes_on_device(op, out);
      if (whole.empty()) whole = some;
      const auto at = static_cast<size_t>(row[0] * heads * d * 2), size = static_cast<size_t>(queries * heads * d * 2);
      const bool same = whole.compare(at, size, some, at, size) == 0;
      CHECK(same);
      const bool untouched = some.find_first_not_of('\xff') == at || row[0] == 0;
      CHECK(untouched);
    }
  }
}
