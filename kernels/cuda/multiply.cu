// out = in A^T for the gather and the scatter of wrapped diagonals (diagonals.cuh), bias and
// activation fused: forward and grad-x are this kernel with different arguments.
//
//   gather   in (batch, P), out (batch, D): forward when M < N, grad-x when M >= N
//   scatter  in (batch, D), out (batch, P): forward when M >= N, grad-x when M < N
//   values (K, D); offsets (K,) int32 in [0, P); bias (out_size,) or null
//   partial  float32 (gridDim.z, batch, out_size), used instead of out when gridDim.z > 1: sums of
//            a slice of the diagonals, without bias and activation (reduce.cu finishes them)
//
// T element type; R rows a pack, at most 16 / sizeof(T); G packs a column, odd; SCATTER which map.
// grid.x: tiles of G * R batch rows. grid.y: blocks walk the outputs, blockDim.x at a time, in
// steps of gridDim.y. grid.z: slices of the diagonals. blockDim.x: a multiple of 32.
//
// Every product reads its own element of x from shared memory, so 128 bytes a cycle of an SM bound
// the kernel once batches are large; a value, loaded once, serves G * R rows from a register. With
// few rows the bytes of the values bound it, and slices of the diagonals spread them over all SMs.
#include "epilogue.cuh"
#include "tile.cuh"

namespace dynadiag {

// Diagonals in flight: with few sums a thread has registers for more, and latency binds.
__device__ constexpr int in_flight(int sums) { return sums <= 4 ? 16 : sums <= 8 ? 8 : 4; }

// Threads a block at most: leaves a thread 128, 96, 64 or 80 registers, for no spills.
__device__ constexpr int max_threads(int panels) {
  return panels == 7 ? 512 : panels == 5 ? 640 : panels == 3 ? 1024 : 768;
}

template <class T, int R, int G, bool SCATTER>
struct Product {
  const WarpList<const T>& list;
  Tile<T, R, G> tile;  // from the lane's column on, if gathered
  unsigned length, period;
  unsigned output;  // of this thread; may lie beyond the last one, then its sums are of no use
  float sums[G][R];

  // Adds entries [from, to) of the list, U at a time, then what is left by halves of U.
  template <int U>
  __device__ void add(int from, int to) {
    for (; from + U <= to; from += U) add_group<U>(from);
    if constexpr (U > 1) add<U / 2>(from, to);
  }

 private:
  template <int U>
  __device__ void add_group(int from) {
    constexpr int QUAD = U < 4 ? U : 4, PAIR = U < 2 ? U : 2;
    T value[U];
    unsigned column[U];
#pragma unroll
    for (int u = 0; u < U; ++u) {
      const auto starts = load<int, QUAD>(list.starts + from + u / QUAD * QUAD);
      const auto rows = load<const T*, PAIR>(list.rows + from + u / PAIR * PAIR);
      value[u] = value_at(rows.at[u % PAIR], starts.at[u % QUAD], column[u]);
    }
#pragma unroll
    for (int u = 0; u < U; ++u) add_column(to_float(value[u]), column[u]);
  }

  // The lane's value on a diagonal, and its column in the tile. Where a scattered diagonal has no
  // cell the value is zero and the column the one of zeros: no NaN or infinity of x slips in.
  __device__ T value_at(const T* row, int start, unsigned& column) const {
    column = start;
    if (!SCATTER) return fetch(row + min(output, length - 1));
    column += threadIdx.x % WARP;
    column = min(column, column - period);  // below the period the difference is huge
    const T value = column < length ? fetch(row + column) : T{};
    column = min(column, length);
    return value;
  }

  __device__ void add_column(float value, unsigned column) {
#pragma unroll
    for (int g = 0; g < G; ++g) {
      const auto x = tile.at(column, g);
#pragma unroll
      for (int r = 0; r < R; ++r) sums[g][r] = fmaf(value, element<T>(x, r), sums[g][r]);
    }
  }
};

template <class T, int R, int G, bool SCATTER>
__global__ void __launch_bounds__(max_threads(G), 1)
    multiply(const T* __restrict__ in, const T* __restrict__ values,
             const int* __restrict__ offsets, const T* __restrict__ bias, T* __restrict__ out,
             float* __restrict__ partial, int batch, int in_size, int out_size, int num_diagonals,
             int activation) {
  DYNADIAG_SHARED(shared);
  Tile<T, R, G> tile{shared};
  auto* lists = reinterpret_cast<WarpList<const T>*>(shared + tile.bytes(in_size));
  auto& list = lists[threadIdx.x / WARP];
  const long long first_row = (long long)blockIdx.x * (G * R);
  const int rows = min((long long)(G * R), batch - first_row);
  tile.template fill<!SCATTER>(in + first_row * in_size, rows, in_size);
  __syncthreads();

  const int length = SCATTER ? in_size : out_size, period = SCATTER ? out_size : in_size;
  const Diagonals<const T, SCATTER> diagonals{values, offsets, length, period};
  const int slices = gridDim.z, share = (num_diagonals + slices - 1) / slices;
  const int begin = blockIdx.z * share, last = min(begin + share, num_diagonals);
  const int lane = threadIdx.x % WARP;
  for (int first = blockIdx.y * blockDim.x + threadIdx.x - lane; first < out_size;
       first += gridDim.y * blockDim.x) {
    Product<T, R, G, SCATTER> product{list,
                                      tile.from(SCATTER ? 0 : lane),
                                      unsigned(length),
                                      unsigned(period),
                                      unsigned(first + lane),
                                      {}};
    for (int next = begin; next < last;) {
      const int count = list.fill(diagonals, first, next, last);
      product.template add<in_flight(G * R)>(0, count);
    }
    if (first + lane >= out_size) continue;
    const float shift = bias && slices == 1 ? to_float(bias[first + lane]) : 0.0f;
    long long at = first_row * out_size + first + lane;
    if (slices > 1) at += (long long)blockIdx.z * batch * out_size;
#pragma unroll
    for (int i = 0; i < G * R; ++i, at += out_size) {
      if (i >= rows) break;
      const float sum = product.sums[i / R][i % R];
      if (slices > 1)
        partial[at] = sum;
      else
        out[at] = from_float<T>(activate(sum + shift, activation));
    }
  }
}

}  // namespace dynadiag
