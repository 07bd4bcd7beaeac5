// partial[slice][k][t] = sum_b shorter[b][t] * longer[b][(t + o_k) mod P] over a slice of the
// batch: the gradient of the values. reduce.cu adds the slices, in order: the result is deterministic.
//
//   M >= N: shorter = x, longer = grad of y;  M < N: shorter = grad of y, longer = x
//   shorter (batch, D); longer (batch, P); offsets (K,) int32 in [0, P)
//   partial float32 (gridDim.z, K, D)
//
// T element type; G packs a column of the tile, odd. grid.x: ceil(D / blockDim.x) stretches of t.
// grid.y: ceil(K / 32) chunks of diagonals. grid.z: slices of the batch, every gridDim.z-th tile of
// G * 16 / sizeof(T) rows. blockDim.x: a multiple of 32.
//
// A thread keeps the sums of one t on 32 diagonals in registers: no exchange between lanes. As in
// multiply.cu every product reads its own element of `longer` from shared memory, which is the
// bound; filling a tile is shared by blockDim.x * 32 products a row.
#include "tile.cuh"

namespace dynadiag {

constexpr int CHUNK = WARP;  // diagonals a thread
constexpr int QUAD = 4;      // of them, starts that one load brings

template <class T, int G>
__global__ void __launch_bounds__(768)
    grad_values(const T* __restrict__ shorter, const T* __restrict__ longer,
                const int* __restrict__ offsets, float* __restrict__ partial, int batch, int length,
                int period, int num_diagonals) {
  constexpr int R = 16 / sizeof(T);
  DYNADIAG_SHARED(shared);
  Tile<T, R, G> tile{shared};
  auto& list = reinterpret_cast<WarpList<float>*>(shared + tile.bytes(period))[threadIdx.x / WARP];
  const int lane = threadIdx.x % WARP;
  const int t = blockIdx.x * blockDim.x + threadIdx.x;
  const int readable = min(t, length - 1);  // lanes beyond the last t work along and store nothing

  float* sums_of_slice = partial + (long long)blockIdx.z * num_diagonals * length;
  const Diagonals<float, false> diagonals{sums_of_slice, offsets, length, period};
  int next = blockIdx.y * CHUNK;
  const int count = list.fill(diagonals, min(t - lane, length - 1), next,
                              min(next + CHUNK, num_diagonals));
  if (lane >= count) list.starts[lane] = 0;

  float sums[CHUNK] = {};
  const long long step = (long long)gridDim.z * tile.ROWS;
  for (long long row = (long long)blockIdx.z * tile.ROWS; row < batch; row += step) {
    const int rows = min((long long)tile.ROWS, batch - row);
    tile.template fill<true>(longer + row * period, rows, period);
    __syncthreads();
    for (int first = 0; first < rows; first += R) {
      const T* at = shorter + (row + first) * length + readable;
      float held[R];
#pragma unroll
      for (int r = 0; r < R; ++r, at += length) held[r] = first + r < rows ? to_float(*at) : 0.0f;
      const auto panel = tile.from(lane, first / R);
#pragma unroll
      for (int d = 0; d < CHUNK; d += QUAD) {
        if (d >= count) break;
        const auto starts = load<int, QUAD>(list.starts + d);
#pragma unroll
        for (int q = 0; q < QUAD; ++q) {
          const auto x = panel.at(starts.at[q], 0);
#pragma unroll
          for (int r = 0; r < R; ++r) sums[d + q] = fmaf(held[r], element<T>(x, r), sums[d + q]);
        }
      }
    }
    __syncthreads();  // the tile is filled anew
  }
  if (t >= length) return;
#pragma unroll
  for (int d = 0; d < CHUNK; ++d)
    if (d < count) list.rows[d][t] = sums[d];
}

}  // namespace dynadiag
