// SPDX-License-Identifier: Apache-2.0
// scale = amax / 127, q = nearest even of x / scale. A scale that would be denormal is 0, and so
// are its q.
#include "kernels/quant_gemm.h"
#include "kernels/simd.h"

namespace llmctl::kn {

#if KN_ONCE
void QuantizeRows::check() const {
  using llmctl::check;
  const int64_t m = x.rows(), k = x.cols();
  check(x.dtype == DType::f32 || x.dtype == DType::bf16, Code::bug, "[quantize_rows] x is ",
        name_of(x.dtype), ", expected f32 or bf16");
  check(group > 0 && group % 32 == 0, Code::bug, "[quantize_rows] group is ", group,
        ", not a multiple of 32");
  check(q.dtype == DType::i8 && q.rows() == m && q.cols() == k, Code::bug, "[quantize_rows] q is ",
        q.rows(), " x ", q.cols(), " and x ", m, " x ", k);
  check(scale.dtype == DType::f32 && scale.size() == m * ((k + group - 1) / group), Code::bug,
        "[quantize_rows] scale has ", scale.size(), " elements, expected ",
        m * ((k + group - 1) / group));
}
#endif

namespace {

template <class T>
float quantize_group(const T* x, int64_t n, int8_t* q) {
  const I32 magnitude = iset1(0x7fffffff);
  F32 top = zero();
  for (int64_t i = 0; i < n; i += 16)
    top = max(from_bits(iand(bits(load_row(x + i, n - i < 16 ? n - i : 16)), magnitude)), top);
  const float scale = max16(top) / 127.0f;
  if (scale == 0) {
    std::memset(q, 0, static_cast<size_t>(n));
    return 0;
  }
  for (int64_t i = 0; i < n; i += 16) {
    const int64_t left = n - i < 16 ? n - i : 16;
    F32 v = div(load_row(x + i, left), set1(scale));
    v = max(min(v, set1(127)), set1(-127));
    int32_t t[16];
    istore(t, to_int(v));
    for (int64_t j = 0; j < left; ++j) q[i + j] = static_cast<int8_t>(t[j]);
  }
  return scale;
}

template <class T>
void quantize_rows(const QuantizeRows& op, const Exec& ex) {
  const int64_t k = op.x.cols(), groups = (k + op.group - 1) / op.group;
  parallel_for(ex, op.x.rows(), [&](int64_t row) {
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t i = row * k + g * op.group;
      const int64_t n = k - g * op.group < op.group ? k - g * op.group : op.group;
      op.scale.as<float>()[row * groups + g] =
          quantize_group(op.x.as<T>() + i, n, op.q.as<int8_t>() + i);
    }
  });
}

}  // namespace

void launch(KN_CPU, const QuantizeRows& op, const Exec& ex) {
  op.x.dtype == DType::f32 ? quantize_rows<float>(op, ex) : quantize_rows<bf16_t>(op, ex);
}

}  // namespace llmctl::kn
