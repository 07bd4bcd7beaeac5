// What the kernels use of CUDA C++, for a host compiler; included before their sources.
#pragma once

#define DYNADIAG_HOST 1

#include <cmath>

#include "fibers.h"

#define __global__
#define __device__
#define __launch_bounds__(...)
#define DYNADIAG_SHARED(name) unsigned char* const name = shim::shared

namespace shim {

inline unsigned char* shared = nullptr;  // dynamic shared memory of the running block

template <class T>
struct Shuffle {
  T value, result;
  int source;

  static void meet(unsigned mask, void* const* operands) {
    for (unsigned lane = 0; lane < warp_size; ++lane) {
      if ((mask >> lane & 1) == 0) continue;
      auto& self = *static_cast<Shuffle*>(operands[lane]);
      const unsigned from = self.source % warp_size;
      if ((mask >> from & 1) == 0)
        fail("shuffle: lane " + std::to_string(lane) + " reads lane " + std::to_string(from) +
             ", which is not in the mask");
      self.result = static_cast<Shuffle*>(operands[from])->value;
    }
  }
};

struct Ballot {
  bool vote;
  unsigned result;

  static void meet(unsigned mask, void* const* operands) {
    unsigned votes = 0;
    for (unsigned lane = 0; lane < warp_size; ++lane)
      if ((mask >> lane & 1) && static_cast<Ballot*>(operands[lane])->vote) votes |= 1u << lane;
    for (unsigned lane = 0; lane < warp_size; ++lane)
      if (mask >> lane & 1) static_cast<Ballot*>(operands[lane])->result = votes;
  }
};

}  // namespace shim

// The defaults are evaluated where the kernel calls.
#define SHIM_PLACE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(SHIM_PLACE) { shim::barrier({file, line}); }

inline void __syncwarp(unsigned mask = 0xffffffffu, SHIM_PLACE) {
  shim::rendezvous(mask, [](unsigned, void* const*) {}, nullptr, {file, line});
}

template <class T>
T __shfl_sync(unsigned mask, T value, int source, SHIM_PLACE) {
  shim::Shuffle<T> operand{value, value, source};
  shim::rendezvous(mask, shim::Shuffle<T>::meet, &operand, {file, line});
  return operand.result;
}

inline unsigned __ballot_sync(unsigned mask, int vote, SHIM_PLACE) {
  shim::Ballot operand{vote != 0, 0};
  shim::rendezvous(mask, shim::Ballot::meet, &operand, {file, line});
  return operand.result;
}

template <class T>
T __ldg(const T* address) {
  return *address;
}

template <class T>
T min(T a, T b) {
  return b < a ? b : a;
}

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }

#undef SHIM_PLACE
