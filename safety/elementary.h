// SPDX-License-Identifier: Apache-2.0
// exp, log and the logistic function in double, made only of IEEE +, -, * and / in a fixed order,
// so that a trained classifier has the same bits whatever libm is linked (NUMERICS: no libm in
// anything that reaches saved state). Relative error below 1e-14 over the range used here.
// exp: Cody and Waite reduction and the Taylor series; log: the series of atanh.
//
// bits: any-isa (built without contraction)
#pragma once

namespace llmctl::elementary {

double exp(double x);  // 0 below -708, exp(709) above 709
double log(double x);  // x > 0 and normal
double logistic(double x);
// log(1 + exp(x)) without overflow
double softplus(double x);

}  // namespace llmctl::elementary
