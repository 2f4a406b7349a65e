// SPDX-License-Identifier: Apache-2.0
// Arithmetic worked digit by digit, lowest first, with answers that can be checked. Every line of
// the work is one small step - copy two digits and the carry above, look one sum up - so a very small
// model can learn the method rather than the answers:
//
//   345+278=?        345-278=?        47x6=?
//   5+8+0=3 c1       5-8-0=7 b1       7x6=42 +0=2 c4
//   4+7+1=2 c1       4-7-1=6 b1       4x6=24 +4=8 c2
//   3+2+1=6 c0       3-2-1=0 b0       answer 282
//   answer 623       answer 67
//
// The digit before c (carry) or b (borrow) is the digit of the result; the number after it goes into
// the next line. Problems: 3-digit a+b and a-b with a >= b, 2-digit a times 1-digit b.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace llmctl {

struct ArithmeticProblem {
  int a = 0;
  char op = '+';  // + - x
  int b = 0;
  bool operator==(const ArithmeticProblem&) const = default;
};

int arithmetic_result(const ArithmeticProblem& p);
std::string arithmetic_prompt(const ArithmeticProblem& p);  // "345+278=?\n"
std::string arithmetic_work(const ArithmeticProblem& p);    // the lines after it, "answer 623\n" last
// Whether a completion of the prompt says the right answer: the number after the first "answer ".
// Anything after its line is not looked at.
bool check_arithmetic(const ArithmeticProblem& p, std::string_view completion);

// One problem in ten of + and -, one in five of x (there are only 720), by a hash of the operands;
// a+b and b+a go together. Training documents never hold one.
bool is_held_out(int a, char op, int b);
// A random problem of one kind on the wanted side.
ArithmeticProblem draw_problem(char op, bool held_out, class CounterRandom& random);
// `n` different held-out problems, a function of the seed: as many of each kind as there are, up to a
// third each; + and - share the rest. Error{usage} when there are not that many.
std::vector<ArithmeticProblem> held_out_problems(uint64_t seed, int64_t n);

}  // namespace llmctl
