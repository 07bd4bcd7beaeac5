// y = x A^T + b for one batch row: the values, nearly all its bytes, are read once, diagonal after
// diagonal, in the order in which they lie in memory.
//
// Nothing wraps: the longer of x and y is a line of period + length numbers, on which the diagonal
// of offset s occupies [s, s + length). A plain pattern reads such a line of x, a rotated one adds
// to such a line of sums, whose end is then folded onto its beginning.
#pragma once

#include <algorithm>

#include "diagonals.h"
#include "scratch.h"
#include "tile_product.h"

namespace dynadiag {

// Diagonals that add to the same sums at a time: these are then loaded and stored once for all.
constexpr int STREAMS = 4;

// Adds values[i] * input[i] to sums[first + i].
template <typename T>
struct Stream {
  const T* values;
  const float* input;
  int64_t first;
};

// What COUNT streams add to sums [first, last), all of which each of them reaches.
template <int COUNT, typename T>
inline void add_together(const Stream<T>* streams, int64_t first, int64_t last, float* sums) {
  const T* values[COUNT];
  const float* inputs[COUNT];
  for (int n = 0; n < COUNT; ++n) {
    values[n] = streams[n].values + (first - streams[n].first);
    inputs[n] = streams[n].input + (first - streams[n].first);
  }
  float* to = sums + first;
  int64_t i = 0;
  for (; i + LANES <= last - first; i += LANES) {
    Vec sum = load(to + i);
#pragma GCC unroll 4
    for (int n = 0; n < COUNT; ++n) sum += load(values[n] + i) * load(inputs[n] + i);
    store(to + i, sum);
  }
  for (; i < last - first; ++i)
    for (int n = 0; n < COUNT; ++n) to[i] += static_cast<float>(values[n][i]) * inputs[n][i];
}

// Streams of `length` in ascending order of `first`: together where all of them reach.
template <int COUNT, typename T>
inline void add_streams(const Stream<T>* streams, int64_t length, float* sums) {
  const int64_t first = streams[COUNT - 1].first, last = std::max(streams[0].first + length, first);
  for (int n = 0; n < COUNT; ++n) {
    const int64_t begin = streams[n].first, end = begin + length;
    add_together<1>(streams + n, begin, std::min(first, end), sums);
    if (end > last) add_together<1>(streams + n, std::max(last, begin), end, sums);
  }
  add_together<COUNT>(streams, first, last, sums);
}

// One row of a product; its diagonals are added in parts, each into sums of its own.
template <typename T>
class StreamedRow {
 public:
  StreamedRow(const Product<T>& job, int64_t row, int64_t parts)
      : p(job.pattern), job(job), row(row), parts(parts), stride((p.period + p.length() + 15) / 16 * 16) {
    float* memory = scratch((parts + 1) * stride);
    sums = memory + stride;
    input = memory;
    const T* x = job.x + row * p.cols;
    for (int64_t i = 0; i < p.cols; ++i) memory[i] = static_cast<float>(x[i]);
    if (!p.rotated) std::copy(memory, memory + p.length(), memory + p.cols);
  }

  void add(int64_t part) const {
    float* mine = sums + part * stride;
    std::fill(mine, mine + stride, 0.0f);
    const int64_t last = p.count() * (part + 1) / parts;
    int64_t j = p.count() * part / parts;
    Stream<T> streams[STREAMS];
    for (; j + STREAMS <= last; j += STREAMS) {
      for (int n = 0; n < STREAMS; ++n) streams[n] = stream(j + n);
      add_streams<STREAMS>(streams, p.length(), mine);
    }
    for (; j < last; ++j) {
      streams[0] = stream(j);
      add_streams<1>(streams, p.length(), mine);
    }
  }

  void finish() const {
    for (int64_t part = 0; part < parts; ++part) {
      const float* from = sums + part * stride;
      if (p.rotated) fold(from + p.period, p.length());
      if (part > 0) fold(from, p.rows);
    }
    T* y = job.y + row * p.rows;
    for (int64_t i = 0; i < p.rows; ++i)
      y[i] = static_cast<T>(sums[i] + (job.bias ? static_cast<float>(job.bias[i]) : 0.0f));
  }

 private:
  Stream<T> stream(int64_t j) const {
    const T* values = job.values + p.index[j] * p.length();
    return p.rotated ? Stream<T>{values, input, p.offsets[j]} : Stream<T>{values, input + p.offsets[j], 0};
  }

  void fold(const float* from, int64_t size) const {
    for (int64_t i = 0; i < size; ++i) sums[i] += from[i];
  }

  const Pattern& p;
  const Product<T>& job;
  const int64_t row, parts, stride;
  float *input, *sums;
};

}  // namespace dynadiag
