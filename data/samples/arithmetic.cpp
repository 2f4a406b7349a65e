// SPDX-License-Identifier: Apache-2.0
#include "data/samples/arithmetic.h"

#include <algorithm>
#include <set>

#include "data/packed/counter_random.h"
#include "kernels/error.h"

namespace llmctl {

namespace {

constexpr uint64_t kHoldOutKey = 0x6C6C6D63746C;  // fixed for good: it says which problems are unseen

std::string digits(int value) {
  return std::to_string(value);
}

std::string sum_work(int a, int b) {
  std::string out;
  int carry = 0;
  for (int i = 0; i < 3; ++i, a /= 10, b /= 10) {
    const int sum = a % 10 + b % 10 + carry;
    out += digits(a % 10) + "+" + digits(b % 10) + "+" + digits(carry) + "=" + digits(sum % 10);
    carry = sum / 10;
    out += " c" + digits(carry) + "\n";
  }
  return out;
}

std::string difference_work(int a, int b) {
  std::string out;
  int borrow = 0;
  for (int i = 0; i < 3; ++i, a /= 10, b /= 10) {
    const int difference = a % 10 - b % 10 - borrow;
    out +=
        digits(a % 10) + "-" + digits(b % 10) + "-" + digits(borrow) + "=" + digits((difference + 10) % 10);
    borrow = difference < 0 ? 1 : 0;
    out += " b" + digits(borrow) + "\n";
  }
  return out;
}

std::string product_work(int a, int b) {
  std::string out;
  int carry = 0;
  for (int i = 0; i < 2; ++i, a /= 10) {
    const int product = (a % 10) * b, sum = product + carry;
    out += digits(a % 10) + "x" + digits(b) + "=" + digits(product / 10) + digits(product % 10);
    out += " +" + digits(carry) + "=" + digits(sum % 10);
    carry = sum / 10;
    out += " c" + digits(carry) + "\n";
  }
  return out;
}

}  // namespace

int arithmetic_result(const ArithmeticProblem& p) {
  check(p.op == '+' || p.op == '-' || p.op == 'x', Code::usage, "[arithmetic] operation '", p.op,
        "' is not + - x");
  return p.op == '+' ? p.a + p.b : p.op == '-' ? p.a - p.b : p.a * p.b;
}

std::string arithmetic_prompt(const ArithmeticProblem& p) {
  return digits(p.a) + p.op + digits(p.b) + "=?\n";
}

std::string arithmetic_work(const ArithmeticProblem& p) {
  const std::string steps = p.op == '+'   ? sum_work(p.a, p.b)
                            : p.op == '-' ? difference_work(p.a, p.b)
                                          : product_work(p.a, p.b);
  return steps + "answer " + digits(arithmetic_result(p)) + "\n";
}

bool check_arithmetic(const ArithmeticProblem& p, std::string_view completion) {
  constexpr std::string_view kMark = "answer ";
  const size_t at = completion.find(kMark);
  if (at == std::string_view::npos) return false;
  std::string_view said = completion.substr(at + kMark.size());
  const size_t end = said.find_first_not_of("0123456789");
  return said.substr(0, end) == digits(arithmetic_result(p));
}

bool is_held_out(int a, char op, int b) {
  if (op == '+' && a > b) std::swap(a, b);
  const uint64_t operands =
      (static_cast<uint64_t>(static_cast<uint32_t>(a)) << 32) | static_cast<uint32_t>(b);
  return keyed_bits(kHoldOutKey + static_cast<uint64_t>(op), operands) % (op == 'x' ? 5 : 10) == 0;
}

ArithmeticProblem draw_problem(char op, bool held_out, CounterRandom& random) {
  for (;;) {
    ArithmeticProblem p{0, op, 0};
    p.a = static_cast<int>(op == 'x' ? random.between(10, 99) : random.between(100, 999));
    p.b = static_cast<int>(op == 'x' ? random.between(2, 9) : random.between(100, 999));
    if (op == '-' && p.a < p.b) std::swap(p.a, p.b);
    if (is_held_out(p.a, p.op, p.b) == held_out) return p;
  }
}

std::vector<ArithmeticProblem> held_out_problems(uint64_t seed, int64_t n) {
  check(n >= 1 && n <= 20000, Code::usage, "[arithmetic] ", n, " held-out problems: ask for 1 to 20000");
  std::vector<ArithmeticProblem> products, out;
  for (int a = 10; a <= 99; ++a)
    for (int b = 2; b <= 9; ++b)
      if (is_held_out(a, 'x', b)) products.push_back({a, 'x', b});
  const Permutation order(products.size(), keyed_bits(seed, 'x'));
  const auto most = std::min<int64_t>(n / 3, static_cast<int64_t>(products.size()));
  for (int64_t i = 0; i < most; ++i) out.push_back(products[order(static_cast<uint64_t>(i))]);
  CounterRandom random(seed, 0x686F6C64);
  std::set<std::pair<int, int>> seen[2];
  for (bool minus = false; static_cast<int64_t>(out.size()) < n;) {
    const ArithmeticProblem p = draw_problem(minus ? '-' : '+', true, random);
    if (!seen[minus].emplace(p.a, p.b).second) continue;
    out.push_back(p);
    minus = !minus;
  }
  return out;
}

}  // namespace llmctl
