// A tile of G * R batch rows in shared memory, whole rows, ready to be read at any offset.
//
// Layout [column][panel g][R rows]: a pack of R rows is one access of up to 16 bytes, the panel an
// immediate offset. Consecutive lanes read consecutive columns, G packs apart; G is odd, so eight
// lanes touch all 32 banks once whatever the offset. HALO columns follow the row: the first ones
// again where diagonals wrap (no modulo inside), zeros where they end.
//
// Shared memory of a block, in bytes (the host computes the same):
//   tile_bytes = round_up((columns + 31) * G * R * sizeof(T), 16)
//   lists      = 768 * (threads / 32)           one WarpList a warp, after the tile
#pragma once

#include "diagonals.cuh"

namespace dynadiag {

constexpr int HALO = WARP - 1;

template <class T, int R, int G>
struct Tile {
  static_assert(G % 2 == 1, "an even number of panels has bank conflicts");
  static constexpr int ROWS = G * R;
  static constexpr int PACK = sizeof(Pack<T, R>);
  unsigned char* shared;
  int origin = 0;  // bytes

  __device__ static int bytes(int columns) {
    return ((columns + HALO) * G * PACK + 15) / 16 * 16;
  }

  // The tile as seen from a column and a panel on: added once, not again by every read.
  __device__ Tile from(int column, int g = 0) const {
    return {shared, opaque(origin + (column * G + g) * PACK)};
  }

  // R rows of panel `g` at `column`.
  __device__ auto at(int column, int g) const {
    const auto* there = shared + (origin + column * (G * PACK));
    return load_words(reinterpret_cast<const Pack<T, R>*>(there) + g);
  }

  // The `rows` rows that exist from `in` on; the others are zero. Every thread takes part.
  template <bool WRAP>
  __device__ void fill(const T* in, int rows, int columns) {
    constexpr int PAIR = 4 / sizeof(T);
    const bool words = columns % PAIR == 0 && reinterpret_cast<unsigned long long>(in) % 4 == 0;
    if (PAIR > 1 && words)
      fill_columns<PAIR>(in, rows, columns);
    else
      fill_columns<1>(in, rows, columns);
    fill_halo<WRAP>(in, rows, columns);
  }

 private:
  __device__ void put(int column, int g, const Pack<T, R>& pack) {
    store(shared + (column * G + g) * PACK, pack);
  }

  // C columns a thread, so that 16-bit rows are read by words.
  template <int C>
  __device__ void fill_columns(const T* in, int rows, int columns) {
    for (int column = threadIdx.x * C; column < columns; column += blockDim.x * C) {
#pragma unroll 1  // one panel's loads in flight are enough, and fewer registers
      for (int g = 0; g < G; ++g) {
        Pack<T, R> turned[C] = {};
#pragma unroll
        for (int r = 0; r < R; ++r) {
          if (g * R + r >= rows) continue;
          const auto row = load<T, C>(in + (long long)(g * R + r) * columns + column);
#pragma unroll
          for (int c = 0; c < C; ++c) turned[c].at[r] = row.at[c];
        }
        // Lanes two columns apart meet in half of the banks: every other four of them write their
        // second column first.
        const bool swap = C > 1 && threadIdx.x / 4 % 2;
        if (swap) exchange(turned[0], turned[C - 1]);
#pragma unroll
        for (int c = 0; c < C; ++c) put(column + (swap ? C - 1 - c : c), g, turned[c]);
      }
    }
  }

  template <bool WRAP>
  __device__ void fill_halo(const T* in, int rows, int columns) {
    for (int i = threadIdx.x; i < HALO * G; i += blockDim.x) {
      const int column = i / G, g = i % G;
      Pack<T, R> pack = {};
#pragma unroll
      for (int r = 0; r < R; ++r)
        if (WRAP && g * R + r < rows)
          pack.at[r] = in[(long long)(g * R + r) * columns + column % columns];
      put(columns + column, g, pack);
    }
  }
};

}  // namespace dynadiag
