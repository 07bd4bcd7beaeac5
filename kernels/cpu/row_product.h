// y = x A^T + b row by row: no transposes, for small batches and for few diagonals.
//
// A block of VECS vectors of outputs, of BATCH batch rows at once, keeps its sums in registers
// while all diagonals that cover it add to them: values are loaded once for BATCH rows, inputs at
// whatever alignment the offset brings. What wraps or ends inside the block is added after, run by
// run. The batch is the outer loop, so the inputs in use stay in the L1 cache.
#pragma once

#include <algorithm>
#include <type_traits>
#include <vector>

#include "diagonals.h"
#include "scratch.h"

namespace dynadiag {

// For every block of `size` outputs of [first, last): the diagonals that cover it and those that
// wrap or end inside it.
struct RowBlocks {
  struct Block {
    int64_t first, covering, partial;  // ends of its entries in the lists below
  };
  std::vector<Block> blocks;
  std::vector<int64_t> values, inputs;  // where each covering diagonal begins
  std::vector<int64_t> partial;         // positions in Pattern::offsets

  void find(const Pattern& p, int64_t first, int64_t last, int64_t size) {
    blocks.clear();
    partial.clear();
    const int64_t count = p.count(), length = p.length();
    const int64_t most = (last - first + size - 1) / size * count;
    values.resize(most);
    inputs.resize(most);
    // Kept in locals: the compiler would reload members after every store.
    const int64_t *offset = p.offsets.data(), *index = p.index.data();
    int64_t *value = values.data(), *input = inputs.data(), covering = 0;
    for (; first < last; first += size) {
      const int64_t last_input = first + size <= last ? p.cols - size : -1;
      for (int64_t j = 0; j < count; ++j) {
        const int64_t u = p.input(first, offset[j]);
        value[covering] = index[j] * length + (p.rotated ? u : first);
        input[covering] = u;
        if (u <= last_input)
          ++covering;
        else if (u < p.cols || u + size > p.period)
          partial.push_back(j);
      }
      blocks.push_back({first, covering, static_cast<int64_t>(partial.size())});
    }
  }
};

// Sums of one block of BATCH rows: the bias and the diagonals that cover the block.
template <int VECS, int BATCH, typename T>
inline void add_covering(const T* values, const int64_t* starts, const int64_t* inputs, int64_t count,
                         const float* x, int64_t x_stride, const T* bias, float* sums, int64_t stride) {
  Vec acc[BATCH][VECS];
#pragma GCC unroll 16
  for (int n = 0; n < VECS; ++n) {
    const Vec start = bias ? load(bias + n * LANES) : Vec{};
#pragma GCC unroll 4
    for (int b = 0; b < BATCH; ++b) acc[b][n] = start;
  }
  for (int64_t e = 0; e < count; ++e) {
    const T* v = values + starts[e];
    const float* in = x + inputs[e];
    Vec held[VECS];
#pragma GCC unroll 16
    for (int n = 0; n < VECS; ++n) held[n] = load(v + n * LANES);
#pragma GCC unroll 4
    for (int b = 0; b < BATCH; ++b)
#pragma GCC unroll 16
      for (int n = 0; n < VECS; ++n) acc[b][n] += held[n] * load(in + b * x_stride + n * LANES);
  }
#pragma GCC unroll 4
  for (int b = 0; b < BATCH; ++b)
#pragma GCC unroll 16
    for (int n = 0; n < VECS; ++n) store(sums + b * stride + n * LANES, acc[b][n]);
}

template <int BATCH, typename T>
inline void add_run(const T* values, const float* x, int64_t x_stride, float* sums, int64_t stride,
                    int64_t size) {
  int64_t i = 0;
  for (; i + LANES <= size; i += LANES) {
    const Vec v = load(values + i);
    for (int b = 0; b < BATCH; ++b) {
      float* to = sums + b * stride + i;
      store(to, load(to) + v * load(x + b * x_stride + i));
    }
  }
  for (; i < size; ++i)
    for (int b = 0; b < BATCH; ++b)
      sums[b * stride + i] += static_cast<float>(values[i]) * x[b * x_stride + i];
}

// All blocks of outputs of BATCH batch rows. Where y holds floats the sums are y itself.
template <int VECS, int BATCH, typename T>
void multiply_row_group(const Pattern& p, const RowBlocks& all, int64_t last_row, const float* x,
                        const T* values, const T* bias, T* y) {
  constexpr int SIZE = VECS * LANES;
  constexpr bool DIRECT = std::is_same_v<T, float>;
  const int64_t stride = DIRECT ? p.rows : SIZE;
  alignas(64) float narrow[DIRECT ? 1 : BATCH * SIZE];
  int64_t covering = 0, partial = 0;
  for (const auto& block : all.blocks) {
    const int64_t size = std::min<int64_t>(SIZE, last_row - block.first);
    const T* start = bias ? bias + block.first : nullptr;
    T* to = y + block.first;
    float* sums = narrow;
    if constexpr (DIRECT) sums = to;
    if (size == SIZE)
      add_covering<VECS, BATCH>(values, &all.values[covering], &all.inputs[covering],
                                block.covering - covering, x, p.cols, start, sums, stride);
    else
      for (int b = 0; b < BATCH; ++b)
        for (int64_t i = 0; i < size; ++i) sums[b * stride + i] = start ? static_cast<float>(start[i]) : 0.0f;
    covering = block.covering;
    for (; partial < block.partial; ++partial) {
      const int64_t j = all.partial[partial];
      for_each_run(p, p.offsets[j], block.first, block.first + size, [&](const Run& run) {
        add_run<BATCH>(values + p.index[j] * p.length() + run.value, x + run.input, p.cols,
                       sums + (run.row - block.first), stride, run.size);
      });
    }
    if constexpr (!DIRECT)
      for (int b = 0; b < BATCH; ++b)
        for (int64_t i = 0; i < size; ++i) to[b * p.rows + i] = static_cast<T>(sums[b * SIZE + i]);
  }
}

// BATCH rows of x as float: themselves, or widened into scratch.
template <int BATCH, typename T>
const float* as_floats(const T* x, int64_t cols) {
  if constexpr (std::is_same_v<T, float>) return x;
  float* wide = scratch(BATCH * cols);
  for (int64_t i = 0; i < BATCH * cols; ++i) wide[i] = static_cast<float>(x[i]);
  return wide;
}

constexpr int ROW_BATCH = 4;
// Sums of ROW_BATCH rows, and of a single one.
constexpr int GROUP_VECS = REGISTERS > 16 ? 6 : 3, SINGLE_VECS = 8;

// Outputs [row_first, row_last) of batch rows [first, last).
template <typename T>
void multiply_rows(const Pattern& p, const T* x, const T* values, const T* bias, T* y, int64_t first,
                   int64_t last, int64_t row_first, int64_t row_last) {
  thread_local RowBlocks blocks;
  int64_t b = first;
  if (b + ROW_BATCH <= last) {
    blocks.find(p, row_first, row_last, GROUP_VECS * LANES);
    for (; b + ROW_BATCH <= last; b += ROW_BATCH) {
      // Diagonals read rows in more streams than the hardware follows: ask for the next ones now.
      for (int64_t i = 0; i < ROW_BATCH * p.cols; i += 64 / sizeof(T))
        __builtin_prefetch(x + (b + ROW_BATCH) * p.cols + i, 0, 2);
      multiply_row_group<GROUP_VECS, ROW_BATCH>(p, blocks, row_last, as_floats<ROW_BATCH>(x + b * p.cols, p.cols),
                                                values, bias, y + b * p.rows);
    }
  }
  if (b < last) blocks.find(p, row_first, row_last, SINGLE_VECS * LANES);
  for (; b < last; ++b)
    multiply_row_group<SINGLE_VECS, 1>(p, blocks, row_last, as_floats<1>(x + b * p.cols, p.cols), values,
                                       bias, y + b * p.rows);
}

}  // namespace dynadiag
