// Faults that a build flag plants in the operators, to prove that `dynadiag compare` finds such.
// Without the flags nothing here costs an instruction.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_like.h>

#include <chrono>

namespace dynadiag::planted {

// With -DDYNADIAG_PLANTED_SLOWDOWN=P, whatever happens while it exists takes P % longer.
struct Slowdown {
#ifdef DYNADIAG_PLANTED_SLOWDOWN
  using Clock = std::chrono::steady_clock;
  Clock::time_point begin = Clock::now();
  ~Slowdown() {
    const Clock::time_point end = Clock::now();
    while ((Clock::now() - end) * 100 < (end - begin) * DYNADIAG_PLANTED_SLOWDOWN) {
    }
  }
#endif
};

// A result, beside it with -DDYNADIAG_PLANTED_ALLOCATION an unused tensor of its size, and in it
// with -DDYNADIAG_PLANTED_ERROR one wrong number.
inline at::Tensor result(at::Tensor y) {
#ifdef DYNADIAG_PLANTED_ALLOCATION
  const at::Tensor unused = at::empty_like(y);
#endif
#ifdef DYNADIAG_PLANTED_ERROR
  y.view(-1).select(0, 0).add_(1);
#endif
  return y;
}

}  // namespace dynadiag::planted
