// Where a warp's 32 consecutive outputs read on the wrapped diagonals (arXiv 2506.11449, app. A).
//
//   gather   out[t] = sum_k values[k][t] in[(t + o_k) mod P]               t < D, outputs D, inputs P
//   scatter  out[p] = sum_k values[k][t] in[t],  t = (p - o_k) mod P < D    outputs P, inputs D
//
// With D = length = min(M, N) and P = period = max(M, N). Both begin at one `start` a warp and
// diagonal and count up by one a lane.
#pragma once

#include "numeric.cuh"

namespace dynadiag {

constexpr int WARP = 32;

// V: what a diagonal is made of, const where it is only read.
template <class V, bool SCATTER>
struct Diagonals {
  V* values;           // (K, length)
  const int* offsets;  // (K,), in [0, period)
  int length, period;

  __device__ V* row(int diagonal) const { return values + (long long)diagonal * length; }

  // Position on a diagonal of the warp whose outputs begin at `first`; in [0, period).
  __device__ int start(int first, int diagonal) const {
    const int offset = offsets[diagonal], at = SCATTER ? first - offset : first + offset;
    return at < 0 ? at + period : at >= period ? at - period : at;
  }

  // Whether one of the 32 positions from `start` on lies on the diagonal.
  __device__ bool meets(int start) const {
    return !SCATTER || start < length || start + WARP > period;
  }
};

// The next diagonals of a warp: found 32 at a time, those that miss its outputs left out, and kept
// in shared memory, where one broadcast brings several of them to all lanes.
template <class V>
struct alignas(16) WarpList {
  static constexpr int CAPACITY = 2 * WARP;
  int starts[CAPACITY];
  V* rows[CAPACITY];

  // Takes diagonals from `next` on, up to `last`, until no 32 more would fit; returns how many.
  template <bool SCATTER>
  __device__ int fill(const Diagonals<V, SCATTER>& from, int first, int& next, int last) {
    const int lane = threadIdx.x % WARP;
    int count = 0;
    __syncwarp();  // the entries before have been read
    for (; next < last && count + WARP <= CAPACITY; next += WARP) {
      const int diagonal = next + lane;
      const int start = diagonal < last ? from.start(first, diagonal) : 0;
      const bool meets = diagonal < last && from.meets(start);
      const unsigned lanes = __ballot_sync(0xffffffffu, meets);
      const int at = count + __popc(lanes & ((1u << lane) - 1));
      if (meets) {
        starts[at] = start;
        rows[at] = from.row(diagonal);
      }
      count += __popc(lanes);
    }
    __syncwarp();
    return count;
  }
};

}  // namespace dynadiag
