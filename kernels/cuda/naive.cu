// A thread an output, everything read from global memory: the first rung of the ladder, and the
// way for rows that no shared memory holds. Bound by the L2 and L1 caches, which bring every
// element of x again for every product.
//
// naive_multiply: arguments as in multiply.cu, without partial. grid.x = batch, grid.y: blocks walk
// the outputs in steps of gridDim.y.
// naive_grad_values: arguments as in grad_values.cu; out (K, D) of T. grid.x = ceil(D / blockDim.x).
// grid.y: blocks walk the diagonals in steps of gridDim.y.
#include "diagonals.cuh"
#include "epilogue.cuh"

namespace dynadiag {

template <class T, bool SCATTER>
__global__ void naive_multiply(const T* __restrict__ in, const T* __restrict__ values,
                               const int* __restrict__ offsets, const T* __restrict__ bias,
                               T* __restrict__ out, int batch, int in_size, int out_size,
                               int num_diagonals, int activation) {
  const int length = SCATTER ? in_size : out_size, period = SCATTER ? out_size : in_size;
  const Diagonals<const T, SCATTER> diagonals{values, offsets, length, period};
  const T* row = in + (long long)blockIdx.x * in_size;
  for (int i = blockIdx.y * blockDim.x + threadIdx.x; i < out_size; i += gridDim.y * blockDim.x) {
    float sum = bias ? to_float(bias[i]) : 0.0f;
    for (int k = 0; k < num_diagonals; ++k) {
      const int read = diagonals.start(i, k), t = SCATTER ? read : i;
      if (t < length) sum = fmaf(to_float(diagonals.row(k)[t]), to_float(row[read]), sum);
    }
    out[(long long)blockIdx.x * out_size + i] = from_float<T>(activate(sum, activation));
  }
}

template <class T>
__global__ void naive_grad_values(const T* __restrict__ shorter, const T* __restrict__ longer,
                                  const int* __restrict__ offsets, T* __restrict__ out, int batch,
                                  int length, int period, int num_diagonals) {
  const int t = blockIdx.x * blockDim.x + threadIdx.x;
  if (t >= length) return;
  const Diagonals<T, false> diagonals{out, offsets, length, period};
  for (int k = blockIdx.y; k < num_diagonals; k += gridDim.y) {
    const int read = diagonals.start(t, k);
    float sum = 0.0f;
    for (long long b = 0; b < batch; ++b)
      sum = fmaf(to_float(shorter[b * length + t]), to_float(longer[b * period + read]), sum);
    diagonals.row(k)[t] = from_float<T>(sum);
  }
}

}  // namespace dynadiag
