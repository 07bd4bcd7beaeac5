// y = x A^T + b for batches: the tile kernel.
//
// A thread owns some batch rows, NV vectors of them at a time, and keeps them transposed: "panel"
// row p holds input p of all its batch rows, so a shift along a diagonal moves by whole aligned
// vectors. Halo rows before and after hold the wrapped inputs (or zeros), so no index is reduced
// inside. A block of ROWS outputs then walks the diagonals in the order of their inputs, in
// windows of panel rows that fit the L1 cache; HEIGHT x NV accumulators stay in registers, one
// load from L1 and one broadcast share per multiply-add.
#pragma once

#include "diagonals.h"
#include "machine.h"
#include "scratch.h"
#include "transpose.h"

namespace dynadiag {

constexpr int ROWS = 96;  // outputs a block: divisible by every height(nv) and by LINE
constexpr int MAX_NV = LANES > 8 ? 4 : 7;  // vectors of batch rows a tile

constexpr int height(int nv) {
  const int most = (REGISTERS - 2) / nv;
  for (int h = REGISTERS > 16 ? 8 : 12; h > 1; --h)
    if (h <= most && ROWS % h == 0) return h;
  return 1;
}

// One HEIGHT x NV tile of outputs, from `row` of its block on, over `entries` diagonals; panel row 0
// is that of input 0. The sums go on from `bias`, one number a row, or if it is null from `out`.
template <int NV>
inline void accumulate(const float* panel, const int64_t* starts, const float* const* values,
                       int64_t entries, int64_t row, const float* bias, float* out) {
  constexpr int H = height(NV), WIDTH = NV * LANES;
  // Loops over sums are unrolled: with an index left, GCC keeps them in memory beside the registers.
  Vec acc[H][NV];
#pragma GCC unroll 12
  for (int h = 0; h < H; ++h)
#pragma GCC unroll 7
    for (int n = 0; n < NV; ++n) acc[h][n] = bias ? Vec{} + bias[row + h] : load(out + h * WIDTH + n * LANES);
  for (int64_t e = 0; e < entries; ++e) {
    const float* x = panel + (starts[e] + row) * WIDTH;
    const float* v = values[e] + row;
#pragma GCC unroll 12
    for (int h = 0; h < H; ++h)
#pragma GCC unroll 7
      for (int n = 0; n < NV; ++n) acc[h][n] += v[h] * load(x + h * WIDTH + n * LANES);
  }
#pragma GCC unroll 12
  for (int h = 0; h < H; ++h)
#pragma GCC unroll 7
    for (int n = 0; n < NV; ++n) store(out + h * WIDTH + n * LANES, acc[h][n]);
}

// A block of ROWS outputs: windows of panel rows outside, tiles of outputs inside.
template <int NV>
void block_product(const float* panel, const PackedBlock<ROWS>& block, const float* bias, float* out) {
  constexpr int WIDTH = NV * LANES;
  // As many panel rows as fill the L1 cache: half of it measured 12 % slower (sums reloaded more
  // often), three times it 15 % (rows from L2).
  const int64_t window = l1_bytes() / (WIDTH * sizeof(float));
  const int64_t count = block.starts.size();
  for (int64_t begin = 0, end; begin < std::max<int64_t>(count, 1); begin = end) {
    for (end = begin + 1; end < count; ++end)
      if (std::abs(block.starts[end] - block.starts[begin]) > window) break;
    for (int row = 0; row < ROWS; row += height(NV))
      accumulate<NV>(panel, block.starts.data() + begin, block.values.data() + begin,
                     std::min(end, count) - begin, row, begin == 0 ? bias : nullptr, out + row * WIDTH);
  }
}

// The panel of `batch` rows with its halos: rows -ROWS .. cols + ROWS, input p modulo the period.
template <int NV, typename T>
void fill_panel(const Pattern& p, const T* x, int64_t batch, float* panel) {
  constexpr int WIDTH = NV * LANES;
  for (int n = 0; n < NV; ++n)
    to_panel(x + n * LANES * p.cols, batch - n * LANES, p.cols, panel + n * LANES, WIDTH);
  const auto fill_halo = [&](int64_t row) {
    const int64_t source = ((row % p.period) + p.period) % p.period;
    float* to = panel + row * WIDTH;
    if (source < p.cols)
      std::copy_n(panel + source * WIDTH, WIDTH, to);
    else
      std::fill_n(to, WIDTH, 0.0f);
  };
  for (int64_t row = -ROWS; row < 0; ++row) fill_halo(row);
  for (int64_t row = p.cols; row < p.cols + ROWS; ++row) fill_halo(row);
}

template <typename T>
struct Product {
  const Pattern& pattern;
  const T* x;
  const T* values;
  const T* bias;  // may be null
  T* y;
};

template <int NV, typename T>
void tile(const Product<T>& job, const float* panel, const PackedBlock<ROWS>& block, int64_t first,
          int64_t batch_first, int64_t batch) {
  constexpr int WIDTH = NV * LANES;
  const int64_t rows = std::min<int64_t>(ROWS, job.pattern.rows - first);
  T* y = job.y + batch_first * job.pattern.rows + first;
  alignas(64) float out[ROWS * WIDTH];
  float bias[ROWS] = {};
  if (job.bias)
    for (int64_t r = 0; r < rows; ++r) bias[r] = static_cast<float>(job.bias[first + r]);
  block_product<NV>(panel, block, bias, out);
  for (int64_t n = 0; n * LANES < batch; ++n)
    for (int64_t r = 0; r < rows; r += LINE)
      from_tile(out + r * WIDTH + n * LANES, WIDTH, rows - r, batch - n * LANES,
                y + n * LANES * job.pattern.rows + r, job.pattern.rows);
}

// Calls f(std::integral_constant<int, nv>) for a run-time nv in 1..MAX_NV.
template <int NV = MAX_NV, typename F>
void with_width(int64_t nv, F f) {
  if constexpr (NV > 1)
    if (nv < NV) return with_width<NV - 1>(nv, f);
  f(std::integral_constant<int, NV>());
}

inline int64_t panel_floats(const Pattern& p, int64_t nv) { return (p.cols + 2 * ROWS) * nv * LANES; }

// Outputs [row_first, row_last) of batch rows [first, last). As many tiles as half the L2 cache
// holds share one packing of each block's values.
template <typename T>
void multiply_tiles(const Product<T>& job, int64_t first, int64_t last, int64_t row_first,
                    int64_t row_last) {
  const Pattern& p = job.pattern;
  const int64_t budget = l2_bytes() / 2 / 4;
  const int64_t vectors = (last - first + LANES - 1) / LANES;
  const int64_t widest = std::clamp<int64_t>(budget / panel_floats(p, 1), 1, MAX_NV);
  const int64_t tiles = (vectors + widest - 1) / widest;
  const int64_t group = std::clamp<int64_t>(budget / panel_floats(p, widest), 1, tiles);
  float* panels = scratch(panel_floats(p, widest) * group);
  thread_local PackedBlock<ROWS> block;
  const auto span = [&](int64_t t) {  // batch rows of tile t, the vectors spread evenly
    const int64_t begin = first + vectors * t / tiles * LANES;
    return std::pair(begin, std::min(first + vectors * (t + 1) / tiles * LANES, last));
  };
  for (int64_t begin = 0; begin < tiles; begin += group) {
    const auto for_tiles = [&](auto f) {
      for (int64_t t = begin; t < std::min(begin + group, tiles); ++t) {
        const auto [b0, b1] = span(t);
        float* panel = panels + (t - begin) * panel_floats(p, widest);
        with_width((b1 - b0 + LANES - 1) / LANES, [&, b0 = b0, b1 = b1](auto nv) {
          f(nv, panel + ROWS * nv() * LANES, b0, b1 - b0);
        });
      }
    };
    for_tiles([&](auto nv, float* panel, int64_t b0, int64_t batch) {
      fill_panel<nv()>(p, job.x + b0 * p.cols, batch, panel);
    });
    for (int64_t row = row_first; row < row_last; row += ROWS) {
      block.pack(p, job.values, row);
      for_tiles([&](auto nv, const float* panel, int64_t b0, int64_t batch) {
        tile<nv()>(job, panel, block, row, b0, batch);
      });
    }
  }
}

}  // namespace dynadiag
