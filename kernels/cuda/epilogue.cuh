// What follows the sum of an output: bias and activation.
#pragma once

#include "numeric.cuh"

namespace dynadiag {

enum Activation { NONE = 0, RELU = 1, GELU = 2, SILU = 3 };

__device__ inline float activate(float x, int activation) {
  switch (activation) {
    case RELU:
      return x < 0.0f ? 0.0f : x;  // NaN stays NaN
    case GELU:
      return 0.5f * x * (1.0f + erff(x * 0.70710678f));
    case SILU:
      return x / (1.0f + expf(-x));
    default:
      return x;
  }
}

}  // namespace dynadiag
