// out[i] = activation(sum over slices of partial[slice][i], in order, + bias[i mod row]).
//
//   partial float32 (slices, size); bias (row,) or null; out (size,)
//
// T element type. A thread an element: grid.x = ceil(size / blockDim.x). Bound by the bytes of
// partial, which mostly still are in the L2 cache. The order of the sum is fixed.
#include "epilogue.cuh"

namespace dynadiag {

template <class T>
__global__ void reduce(const float* __restrict__ partial, const T* __restrict__ bias,
                       T* __restrict__ out, long long size, int slices, int row, int activation) {
  const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= size) return;
  float sum = 0.0f;
#pragma unroll 8
  for (int slice = 0; slice < slices; ++slice) sum += partial[slice * size + i];
  if (bias) sum += to_float(bias[i % row]);
  out[i] = from_float<T>(activate(sum, activation));
}

}  // namespace dynadiag
