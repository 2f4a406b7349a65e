// SPDX-License-Identifier: Apache-2.0
// Sorting and combining on the CPU.
#include "kernels/experts.h"

#include "kernels/rows.h"
#include "kernels/simd.h"

namespace llmctl::kn {

#if KN_ONCE
void SortByExpert::check() const {
  llmctl::check(starts.dtype == DType::i32 && starts.size() >= 2, Code::bug, "[", kName, "] starts has ", starts.size(),
                " elements of ", name_of(starts.dtype));
  check_vector(kName, "index", index, DType::i32, index.size());
  check_vector(kName, "token", token, DType::i32, index.size());
  check_vector(kName, "place", place, DType::i32, index.size());
}

void CombineExperts::check() const {
  const int64_t t = y.rows(), d = y.cols();
  check_rows(kName, "y", y, t, d);
  check_rows(kName, "x", x, place.size(), d);
  llmctl::check(place.dtype == DType::i32 && place.rows() == t, Code::bug, "[", kName, "] place has ", place.rows(),
                " rows and y ", t);
  if (weight) check_vector(kName, "weight", weight, DType::f32, place.size());
  check_residual(kName, residual, y);
}

void CombineExpertsBwd::check() const {
  const int64_t t = dy.rows(), d = dy.cols();
  check_rows(kName, "dy", dy, t, d);
  check_rows(kName, "x", x, place.size(), d);
  check_rows(kName, "dx", dx, place.size(), d);
  llmctl::check(place.dtype == DType::i32 && place.rows() == t, Code::bug, "[", kName, "] place has ", place.rows(),
                " rows and dy ", t);
  check_vector(kName, "weight", weight, DType::f32, place.size());
  check_vector(kName, "dweight", dweight, DType::f32, place.size());
}

void AddSharedSlot::check() const {
  const int64_t t = place.rows(), all = place.size() + t;
  check_vector(kName, "place", place, DType::i32, place.size());
  check_vector(kName, "weight", weight, DType::f32, place.size());
  check_vector(kName, "gate", gate, DType::f32, t);
  check_vector(kName, "place_all", place_all, DType::i32, all);
  check_vector(kName, "weight_all", weight_all, DType::f32, all);
}

void AddSharedSlotBwd::check() const {
  const int64_t t = dweight.rows(), all = dweight.size() + t;
  check_vector(kName, "weight_all", weight_all, DType::f32, all);
  check_vector(kName, "dweight_all", dweight_all, DType::f32, all);
  check_vector(kName, "dweight", dweight, DType::f32, dweight.size());
  check_rows(kName, "dgate", dgate, t, 1);
}
#endif

namespace {

template <class X, class Y>
void combine_row(const X* x, const int32_t* place, const float* weight, int64_t k, const Y* residual, Y* y, int64_t d) {
  for_lanes(d, [&](int64_t i, int64_t n) {
    F32 sum = zero();
    for (int64_t j = 0; j < k; ++j) {
      const F32 v = load_row(x + place[j] * d + i, n);
      sum = weight ? fma(set1(weight[j]), v, sum) : add(sum, v);
    }
    store_row(y + i, residual ? add(sum, load_row(residual + i, n)) : sum, n);
  });
}

template <class G, class X, class D>
float combine_backward_row(const G* dy, const X* x, float weight, D* dx, int64_t d) {
  const F32 by = set1(weight);
  F32 dots = zero();
  for_lanes(d, [&](int64_t i, int64_t n) {
    const F32 g = load_row(dy + i, n);
    dots = fma(g, load_row(x + i, n), dots);
    store_row(dx + i, mul(by, g), n);
  });
  return sum16(dots);
}

}  // namespace

// One task: the work is a few instructions a slot.
void launch(KN_CPU, const SortByExpert& a, const Exec& ex) {
  const int64_t n = a.index.size(), k = a.index.cols(), experts = a.starts.size() - 1;
  const int32_t* index = a.index.as<int32_t>();
  int32_t *starts = a.starts.as<int32_t>(), *token = a.token.as<int32_t>(), *place = a.place.as<int32_t>();
  parallel_for(ex, 1, [&](int64_t) {
    std::memset(starts, 0, static_cast<size_t>(experts + 1) * 4);
    int32_t* next = starts + 1;  // counts, then where an expert goes on, at the end where the next one starts
    for (int64_t i = 0; i < n; ++i) ++next[index[i]];
    int32_t sum = 0;
    for (int64_t e = 0; e < experts; ++e) {
      const int32_t count = next[e];
      next[e] = sum;
      sum += count;
    }
    for (int64_t i = 0; i < n; ++i) {
      const int32_t row = next[index[i]]++;
      token[row] = static_cast<int32_t>(i / k);
      place[i] = row;
    }
  });
}

void launch(KN_CPU, const CombineExperts& a, const Exec& ex) {
  const int64_t t = a.y.rows(), d = a.y.cols(), k = a.place.cols();
  const int32_t* place = a.place.as<int32_t>();
  const float* weight = a.weight.as<float>();
  by_dtype(a.x, [&](auto* x) {
    by_dtype(a.y, [&](auto* y) {
      const auto* residual = static_cast<decltype(y)>(a.residual.data);
      for_blocks(ex, t, rows_per_task(d * (k + 1)), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r)
          combine_row(x, place + r * k, weight ? weight + r * k : nullptr, k, residual ? residual + r * d : nullptr,
                      y + r * d, d);
      });
    });
  });
}

void launch(KN_CPU, const AddSharedSlot& a, const Exec& ex) {
  const int64_t t = a.place.rows(), k = a.place.cols();
  const float* gate = a.gate.as<float>();
  for_blocks(ex, t, rows_per_task(k + 1), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      std::memcpy(a.place_all.as<int32_t>() + r * (k + 1), a.place.as<int32_t>() + r * k, static_cast<size_t>(k) * 4);
      std::memcpy(a.weight_all.as<float>() + r * (k + 1), a.weight.as<float>() + r * k, static_cast<size_t>(k) * 4);
      a.place_all.as<int32_t>()[r * (k + 1) + k] = static_cast<int32_t>(t * k + r);
      a.weight_all.as<float>()[r * (k + 1) + k] = sigmoid(gate[r]);
    }
  });
}

void launch(KN_CPU, const AddSharedSlotBwd& a, const Exec& ex) {
  const int64_t t = a.dweight.rows(), k = a.dweight.cols();
  const float* from = a.dweight_all.as<float>();
  by_dtype(a.dgate, [&](auto* dgate) {
    for_blocks(ex, t, rows_per_task(k + 1), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        std::memcpy(a.dweight.as<float>() + r * k, from + r * (k + 1), static_cast<size_t>(k) * 4);
        const float s = a.weight_all.as<float>()[r * (k + 1) + k];
        store_row(dgate + r, set1(from[r * (k + 1) + k] * (s * (1.0f - s))), 1);
      }
    });
  });
}

void launch(KN_CPU, const CombineExpertsBwd& a, const Exec& ex) {
  const int64_t t = a.dy.rows(), d = a.dy.cols(), k = a.place.cols();
  const int32_t* place = a.place.as<int32_t>();
  const float* weight = a.weight.as<float>();
  float* dweight = a.dweight.as<float>();
  by_dtype(a.dy, [&](auto* dy) {
    by_dtype(a.x, [&](auto* x) {
      by_dtype(a.dx, [&](auto* dx) {
        for_blocks(ex, t, rows_per_task(d * k), [&](int64_t begin, int64_t end) {
          for (int64_t i = begin * k; i < end * k; ++i)
            dweight[i] = combine_backward_row(dy + i / k * d, x + place[i] * d, weight[i], dx + place[i] * d, d);
        });
      });
    });
  });
}

}  // namespace llmctl::kn
