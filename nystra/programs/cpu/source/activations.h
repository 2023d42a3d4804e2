// Activations of vectors, as torch defines them.
#pragma once
#include "lanes.h"

// Their numbers in arguments.
enum Activation { NONE, RELU, GELU };

// erf(x) to an absolute error of 1.5e-7 (Abramowitz and Stegun, 7.1.26, with the polynomial in t = 1 / (1 + p|x|));
// NaN for NaN.
INLINE Floats erf(Floats x) {
  constexpr uint32_t SIGN = 0x80000000;
  Floats size = (Floats)((Words)x & ~SIGN);
  Floats t = 1.f / (size * 0.3275911f + 1.f);
  Floats p = t * 1.061405429f - 1.453152027f;
  p = p * t + 1.421413741f;
  p = p * t - 0.284496736f;
  p = p * t + 0.254829592f;
  Floats result = 1.f - p * t * exp2(size * size * -LOG2_E);
  return (Floats)((Words)result | ((Words)x & SIGN));
}

INLINE Floats activate(int activation, Floats x) {
  if (activation == RELU) return larger(Floats{}, x);
  if (activation == GELU) return x * 0.5f * (1.f + erf(x * 0.70710678f));
  return x;
}
