// How fast this card reads shared memory, the bound of multiply.cu: every thread reads 16 bytes,
// conflict-free, UNROLL times a round.
//
//   out float32 (gridDim.x, blockDim.x): sums, so that no read can be left out
//
// Bytes moved: rounds * 8 * 16 * threads * blocks. blockDim.x: a multiple of 32; no dynamic shared
// memory beyond 16 KiB is used.
#include "numeric.cuh"

namespace dynadiag {

constexpr int UNROLL = 8, PACKS = 1024;  // 16 KiB

__global__ void shared_rate(float* __restrict__ out, int rounds) {
  DYNADIAG_SHARED(shared);
  auto* packs = reinterpret_cast<Pack<float, 4>*>(shared);
  for (int i = threadIdx.x; i < PACKS; i += blockDim.x)
    packs[i] = {float(i), 1.0f, 2.0f, 3.0f};
  __syncthreads();
  float sum = 0.0f;
  int at = threadIdx.x;
  for (int round = 0; round < rounds; ++round, at += 41)  // other packs each round: nothing to keep
#pragma unroll
    for (int u = 0; u < UNROLL; ++u) {
      const auto pack = load<float, 4>(packs + (at + u * 32) % PACKS);
      sum += pack.at[0] + pack.at[1] + pack.at[2] + pack.at[3];
    }
  out[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}

}  // namespace dynadiag
