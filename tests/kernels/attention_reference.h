// SPDX-License-Identifier: Apache-2.0
// Attention in plain loops: in f64, and in f32 by the letter of kernels/attention.h for one row, whose
// bits the op must have. One KV group at a time; a document is a list of rows of qkv.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/attention.h"
#include "kernels/math.h"
#include "tests/kernels/op_check.h"

namespace llmctl::kn {

struct HeadShape {
  int64_t heads, kv_heads, dim;
  int64_t group() const { return heads / kv_heads; }
  int64_t total() const { return heads + 2 * kv_heads; }
};

struct Gradients {
  std::vector<double> out, lse, dqkv;
};

// Forward (and backward when dout is given) in f64 for rows [first, first+n) as one document.
inline void reference_document(const HeadShape& h, const Buffer& qkv, const Buffer* dout, int64_t first,
                               int64_t n, double scale, Gradients& g) {
  auto at = [&](int64_t t, int64_t head, int64_t i) { return ((first + t) * h.total() + head) * h.dim + i; };
  for (int64_t head = 0; head < h.heads; ++head) {
    const int64_t k = h.heads + head / h.group(), v = k + h.kv_heads;
    for (int64_t q = 0; q < n; ++q) {
      std::vector<double> p(static_cast<size_t>(q + 1));
      double m = -1e300, l = 0, delta = 0;
      for (int64_t j = 0; j <= q; ++j) {
        double s = 0;
        for (int64_t i = 0; i < h.dim; ++i) s += qkv.at(at(q, head, i)) * qkv.at(at(j, k, i));
        p[static_cast<size_t>(j)] = s * scale;
        m = std::max(m, s * scale);
      }
      for (double& x : p) l += x = std::exp(x - m);
      const int64_t row = ((first + q) * h.heads + head) * h.dim;
      for (int64_t i = 0; i < h.dim; ++i) {
        double o = 0;
        for (int64_t j = 0; j <= q; ++j) o += p[static_cast<size_t>(j)] / l * qkv.at(at(j, v, i));
        g.out[static_cast<size_t>(row + i)] = o;
        if (dout) delta += o * dout->at(row + i);
      }
      g.lse[static_cast<size_t>((first + q) * h.heads + head)] = m + std::log(l);
      if (!dout) continue;
      for (int64_t j = 0; j <= q; ++j) {
        const double pj = p[static_cast<size_t>(j)] / l;
        double dp = 0;
        for (int64_t i = 0; i < h.dim; ++i) dp += dout->at(row + i) * qkv.at(at(j, v, i));
        const double ds = pj * (dp - delta) * scale;
        for (int64_t i = 0; i < h.dim; ++i) {
          g.dqkv[static_cast<size_t>(at(q, head, i))] += ds * qkv.at(at(j, k, i));
          g.dqkv[static_cast<size_t>(at(j, k, i))] += ds * qkv.at(at(q, head, i));
          g.dqkv[static_cast<size_t>(at(j, v, i))] += pj * dout->at(row + i);
        }
      }
    }
  }
}

// A storage type and how its products are summed.
struct Kind {
  DType dtype;
  Bf16Order order = Bf16Order::pair;
  bool blocks() const { return order == Bf16Order::amx32; }
};
const Kind kKinds[] = {{DType::f32}, {DType::bf16}, {DType::bf16, Bf16Order::amx32}};

// One sum as the contract has it: f32 a chain in order; bf16 by pairs, the odd element first, an odd
// tail paired with zero; or by blocks of 32, a chain of the even elements and one of the odd.
template <class A, class B>
float contract_chain(const Kind& kind, int64_t n, A a, B b) {
  float acc = 0.0f;
  if (kind.dtype == DType::f32) {
    for (int64_t i = 0; i < n; ++i) acc = __builtin_fmaf(a(i), b(i), acc);
    return acc;
  }
  if (kind.blocks()) {
    for (int64_t i = 0; i < n; i += 32) {
      float chain[2] = {0.0f, 0.0f};
      for (int64_t j = i; j < std::min(i + 32, n); ++j)
        chain[j % 2] = __builtin_fmaf(a(j), b(j), chain[j % 2]);
      acc += chain[0] + chain[1];
    }
    return acc;
  }
  for (int64_t i = 0; i < n; i += 2) {
    acc = i + 1 < n ? __builtin_fmaf(a(i + 1), b(i + 1), acc) : acc;
    acc = __builtin_fmaf(a(i), b(i), acc);
  }
  return acc;
}

inline float contract_sum16(const std::vector<float>& x) {
  float lane[16] = {};
  for (size_t i = 0; i < x.size(); ++i) lane[i % 16] += x[i];
  for (int w = 8; w > 0; w /= 2)
    for (int i = 0; i < w; ++i) lane[i] += lane[i + w];
  return lane[0];
}

// Out row and lse of query q of a document that starts at row `first`, for one head, in f32.
inline std::vector<float> contract_row(const HeadShape& h, const Kind& kind, const Buffer& qkv, int64_t first,
                                       int64_t q, int64_t head, float scale, float& lse) {
  const bool bf16 = kind.dtype == DType::bf16;
  const int64_t k = h.heads + head / h.group(), v = k + h.kv_heads;
  auto x = [&](int64_t t, int64_t which, int64_t i) {
    return static_cast<float>(qkv.at(((first + t) * h.total() + which) * h.dim + i));
  };
  float m = 0, l = 0;
  std::vector<float> o(static_cast<size_t>(h.dim));
  for (int64_t key = 0; key <= q; key += kSegmentKeys) {
    const int64_t n = std::min(q + 1 - key, kSegmentKeys);
    std::vector<float> p(static_cast<size_t>(n));
    for (int64_t j = 0; j < n; ++j)
      p[static_cast<size_t>(j)] = scale * contract_chain(
                                              kind, h.dim, [&](int64_t i) { return x(q, head, i); },
                                              [&](int64_t i) { return x(key + j, k, i); });
    const float m_seg = *std::max_element(p.begin(), p.end());
    for (float& s : p) s = math::exp(s - m_seg);
    const float l_seg = contract_sum16(p);
    if (bf16)
      for (float& s : p) s = test_widen(test_narrow(s));
    const float top = key == 0 ? m_seg : std::max(m, m_seg);
    const float keep = key == 0 ? 0.0f : math::exp(m - top), take = math::exp(m_seg - top);
    for (int64_t i = 0; i < h.dim; ++i) {
      const float seg = contract_chain(
          kind, n, [&](int64_t j) { return p[static_cast<size_t>(j)]; },
          [&](int64_t j) { return x(key + j, v, i); });
      float& to = o[static_cast<size_t>(i)];
      to = key == 0 ? seg : __builtin_fmaf(to, keep, seg * take);
    }
    l = key == 0 ? l_seg : __builtin_fmaf(l, keep, l_seg * take);
    m = top;
  }
  for (float& e : o) e = e / l;
  lse = m + math::log(l);
  return o;
}

// Of C chunks: 0, C-1, 1, C-2, ... (NUMERICS rule 11).
inline std::vector<size_t> zigzag(size_t chunks) {
  std::vector<size_t> order;
  for (size_t i = 0; i < chunks; ++i) order.push_back(i % 2 == 0 ? i / 2 : chunks - 1 - i / 2);
  return order;
}

// Neighbours join, then neighbours of these.
inline std::vector<float> joined(std::vector<std::vector<float>> terms) {
  for (size_t width = 1; width < terms.size(); width *= 2)
    for (size_t a = 0; a + width < terms.size(); a += 2 * width)
      for (size_t i = 0; i < terms[a].size(); ++i) terms[a][i] += terms[a + width][i];
  return terms[0];
}

// dqkv of a document of n rows from row `first` on, in the very order of attention.h; its queries in chunks
// that end before each of chunk_ends (ascending; the last is n).
inline std::vector<float> contract_gradients(const HeadShape& h, const Kind& kind, const Buffer& qkv,
                                             const Buffer& out, const Buffer& lse, const Buffer& dout,
                                             int64_t first, int64_t n, float scale,
                                             const std::vector<int64_t>& chunk_ends) {
  const size_t chunks = chunk_ends.size();
  const bool bf16 = kind.dtype == DType::bf16;
  auto size = [](int64_t x) { return static_cast<size_t>(x); };
  auto rounded = [&](float x) { return bf16 ? test_widen(test_narrow(x)) : x; };
  auto x = [&](int64_t t, int64_t which, int64_t i) {
    return static_cast<float>(qkv.at(((first + t) * h.total() + which) * h.dim + i));
  };
  std::vector<float> grad(size(n * h.total() * h.dim));
  for (int64_t kv = 0; kv < h.kv_heads; ++kv) {
    std::vector<std::vector<std::vector<float>>> dk(chunks), dv(chunks);  // [chunk][head]
    for (int64_t head = kv * h.group(); head < (kv + 1) * h.group(); ++head) {
      const int64_t k = h.heads + kv, v = k + h.kv_heads;
      auto g = [&](int64_t t, int64_t i) {
        return static_cast<float>(dout.at(((first + t) * h.heads + head) * h.dim + i));
      };
      std::vector<float> p(size(n * n)), ds(size(n * n));  // [query][key]
      for (int64_t q = 0; q < n; ++q) {
        const int64_t row = (first + q) * h.heads + head;
        float lane[16] = {};
        for (int64_t i = 0; i < h.dim; ++i)
          lane[i % 16] = __builtin_fmaf(g(q, i), static_cast<float>(out.at(row * h.dim + i)), lane[i % 16]);
        const float delta = contract_sum16(std::vector<float>(lane, lane + 16));
        for (int64_t j = 0; j <= q; ++j) {
          const float s = contract_chain(
              kind, h.dim, [&](int64_t i) { return x(q, head, i); }, [&](int64_t i) { return x(j, k, i); });
          const float dp = contract_chain(
              kind, h.dim, [&](int64_t i) { return g(q, i); }, [&](int64_t i) { return x(j, v, i); });
          const float weight = math::exp(s * scale - static_cast<float>(lse.at(row)));
          p[size(q * n + j)] = rounded(weight);
          ds[size(q * n + j)] = rounded(weight * (dp - delta) * scale);
        }
        for (int64_t i = 0; i < h.dim; ++i)
          grad[size((q * h.total() + head) * h.dim + i)] = contract_chain(
              kind, n, [&](int64_t j) { return ds[size(q * n + j)]; }, [&](int64_t j) { return x(j, k, i); });
      }
      auto over_queries = [&](const std::vector<float>& weights, auto&& value, int64_t begin, int64_t end) {
        std::vector<float> sums(size(n * h.dim));
        for (int64_t j = 0; j < n; ++j)
          for (int64_t i = 0; i < h.dim; ++i)
            sums[size(j * h.dim + i)] = contract_chain(
                kind, end - begin, [&](int64_t q) { return weights[size((begin + q) * n + j)]; },
                [&](int64_t q) { return value(begin + q, i); });
        return sums;
      };
      for (size_t c = 0; c < chunks; ++c) {
        const int64_t begin = c == 0 ? 0 : chunk_ends[c - 1], end = chunk_ends[c];
        dk[c].push_back(over_queries(ds, [&](int64_t q, int64_t i) { return x(q, head, i); }, begin, end));
        dv[c].push_back(over_queries(p, g, begin, end));
      }
    }
    auto join = [&](const std::vector<std::vector<std::vector<float>>>& sums, int64_t which) {
      std::vector<std::vector<float>> terms;
      for (const size_t c : zigzag(chunks)) terms.push_back(joined(sums[c]));
      const std::vector<float> all = joined(terms);
      for (int64_t j = 0; j < n; ++j)
        for (int64_t i = 0; i < h.dim; ++i)
          grad[size((j * h.total() + which) * h.dim + i)] = all[size(j * h.dim + i)];
    };
    join(dk, h.heads + kv);
    join(dv, h.heads + h.kv_heads + kv);
  }
  return grad;
}

}  // namespace llmctl::kn
