// Tiles turned between (batch, features) and (features, batch), LANES x LANES in registers.
#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>

#include "vec.h"

namespace dynadiag {

// Lane l of the blend of rows i and i + S of a butterfly step: see transpose().
constexpr int picked(int lane, int step, bool high) {
  if (high) return (lane & step) ? LANES + lane : lane + step;
  return (lane & step) ? LANES + lane - step : lane;
}

template <int STEP, bool HIGH, std::size_t... I>
inline Vec blend(Vec a, Vec b, std::index_sequence<I...>) {
#if defined(__clang__) || __GNUC__ >= 12
  return __builtin_shufflevector(a, b, picked(I, STEP, HIGH)...);
#else
  using Mask = int32_t __attribute__((vector_size(LANES * 4)));
  return __builtin_shuffle(a, b, Mask{picked(I, STEP, HIGH)...});
#endif
}

// In-place transpose by log2(LANES) butterfly steps, each swapping off-diagonal STEP x STEP blocks.
template <int STEP = LANES / 2>
inline void transpose(Vec (&rows)[LANES]) {
  constexpr auto lanes = std::make_index_sequence<LANES>();
#pragma GCC unroll 16
  for (int i = 0; i < LANES; ++i) {
    if (i & STEP) continue;
    const Vec a = rows[i], b = rows[i + STEP];
    rows[i] = blend<STEP, false>(a, b, lanes);
    rows[i + STEP] = blend<STEP, true>(a, b, lanes);
  }
  if constexpr (STEP > 1) transpose<STEP / 2>(rows);
}

template <typename T>
inline Vec load_part(const T* p, int64_t size) {
  if (size >= LANES) return load(p);
  Vec v{};
  for (int64_t i = 0; i < size; ++i) v[i] = static_cast<float>(p[i]);
  return v;
}

template <typename T>
inline void store_part(T* p, Vec v, int64_t size) {
  if (size >= LANES) return store(p, v);
  for (int64_t i = 0; i < size; ++i) p[i] = static_cast<T>(v[i]);
}

// panel[c][b] = x[b][c] for LANES batch rows, of which `batch` exist; the rest become zero.
template <typename T>
void to_panel(const T* x, int64_t batch, int64_t cols, float* panel, int64_t width) {
  for (int64_t c = 0; c < cols; c += LANES) {
    Vec tile[LANES];
#pragma GCC unroll 16
    for (int b = 0; b < LANES; ++b) tile[b] = b < batch ? load_part(x + b * cols + c, cols - c) : Vec{};
    transpose(tile);
    const int64_t size = cols - c < LANES ? cols - c : LANES;
    for (int64_t i = 0; i < size; ++i) store(panel + (c + i) * width, tile[i]);
  }
}

// y[b][r] = tile[r][b] for at most LINE outputs and LANES batch rows, a cache line of y at a time.
constexpr int LINE = 16;

template <typename T>
void from_tile(const float* tile, int64_t width, int64_t rows, int64_t batch, T* y, int64_t stride) {
  Vec lanes[LINE / LANES][LANES];
  for (int part = 0; part < LINE / LANES; ++part) {
#pragma GCC unroll 16
    for (int r = 0; r < LANES; ++r) lanes[part][r] = load(tile + (part * LANES + r) * width);
    transpose(lanes[part]);
  }
  if (rows >= LINE && batch >= LANES) {
#pragma GCC unroll 16
    for (int b = 0; b < LANES; ++b)
      for (int part = 0; part < LINE / LANES; ++part) store(y + b * stride + part * LANES, lanes[part][b]);
    return;
  }
  for (int64_t b = 0; b < std::min<int64_t>(batch, LANES); ++b)
    for (int part = 0; part < LINE / LANES; ++part)
      store_part(y + b * stride + part * LANES, lanes[part][b], rows - part * LANES);
}

}  // namespace dynadiag
