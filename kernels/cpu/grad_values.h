// dV[k][t] = sum over the batch of short[b][t] * long[b][(t + s_k) mod P].
//
// The operand of length D = min(M, N) is indexed by t, the one of length P = max(M, N) by the
// wrapped sum (x and dy, or dy and x; arXiv 2506.11449 appendix A). A block of T consecutive t and
// a window of diagonals keep their sums, and the stretches of both operands that they meet, in the
// L1 cache; BATCH values of `short` stay in registers over all diagonals of the window. Sums run in
// the order of the batch whatever the number of threads: the result is deterministic.
#pragma once

#include <algorithm>
#include <vector>

#include "diagonals.h"
#include "machine.h"
#include "scratch.h"

namespace dynadiag {

constexpr int T_BLOCK = 64;  // values of a diagonal a block
constexpr int BATCH = 8;     // batch rows in registers

template <typename T>
struct GradValues {
  const Pattern& pattern;
  const T* short_side;  // (batch, length)
  const T* long_side;   // (batch, period)
  float* out;           // (K, length)
};

// Diagonals whose stretches of `long` start near each other.
struct Window {
  const int64_t* starts;  // ascending
  const int64_t* index;   // rows of `out`
  int64_t count;
  int64_t width() const { return starts[count - 1] - starts[0] + T_BLOCK; }
};

// sums[d][i] += sum_b s[b][i] * l[b][i + shift_d] over BATCH rows and T_BLOCK values.
template <typename T>
inline void add_batch(const T* s, int64_t s_stride, const T* l, int64_t l_stride, const Window& w,
                      float* sums) {
  for (int i = 0; i < T_BLOCK; i += LANES) {
    Vec held[BATCH];
    for (int b = 0; b < BATCH; ++b) held[b] = load(s + b * s_stride + i);
    for (int64_t d = 0; d < w.count; ++d) {
      const T* at = l + (w.starts[d] - w.starts[0]) + i;
      float* to = sums + d * T_BLOCK + i;
      Vec acc = load(to);
#pragma GCC unroll 8
      for (int b = 0; b < BATCH; ++b) acc += held[b] * load(at + b * l_stride);
      store(to, acc);
    }
  }
}

// to[b][0 .. width) = source[b][column ..] wrapped, for `rows` of BATCH rows; the rest become zero.
template <typename T>
void copy_wrapped(const T* source, int64_t period, int64_t column, int64_t width, int64_t rows, T* to) {
  for (int64_t b = 0; b < BATCH; ++b, source += period) {
    if (b >= rows) {
      to = std::fill_n(to, width, static_cast<T>(0.0f));
      continue;
    }
    for (int64_t done = 0, c = column; done < width; c = 0) {
      const int64_t run = std::min(width - done, period - c);
      to = std::copy_n(source + c, run, to);
      done += run;
    }
  }
}

// Adds batch rows [first, last) to out[w.index][t .. t + T_BLOCK].
template <typename T>
void add_window(const GradValues<T>& job, const Window& w, int64_t t, int64_t first, int64_t last) {
  const int64_t length = job.pattern.length(), period = job.pattern.period, width = w.width();
  const int64_t size = std::min<int64_t>(T_BLOCK, length - t);
  float* sums = scratch(w.count * T_BLOCK + BATCH * (width + T_BLOCK));
  T* s_copy = reinterpret_cast<T*>(sums + w.count * T_BLOCK);
  T* l_copy = s_copy + BATCH * T_BLOCK;
  for (int64_t d = 0; d < w.count; ++d)
    std::fill(std::copy_n(job.out + w.index[d] * length + t, size, sums + d * T_BLOCK),
              sums + (d + 1) * T_BLOCK, 0.0f);
  for (int64_t b = first; b < last; b += BATCH) {
    const int64_t rows = std::min<int64_t>(BATCH, last - b);
    const T* s = job.short_side + b * length;
    const T* l = job.long_side + b * period;
    if (rows == BATCH && size == T_BLOCK && w.starts[0] + width <= period) {
      add_batch(s + t, length, l + w.starts[0], period, w, sums);
    } else {
      copy_wrapped(s, length, t, T_BLOCK, rows, s_copy);
      copy_wrapped(l, period, w.starts[0], width, rows, l_copy);
      add_batch(s_copy, T_BLOCK, l_copy, width, w, sums);
    }
  }
  for (int64_t d = 0; d < w.count; ++d)
    std::copy_n(sums + d * T_BLOCK, size, job.out + w.index[d] * length + t);
}

// Adds batch rows [first, last) to values [t, t + T_BLOCK) of the part-th of `parts` of the
// diagonals, taken in the order of their stretches of `long`.
template <typename T>
void add_block(const GradValues<T>& job, int64_t t, int64_t part, int64_t parts, int64_t first,
               int64_t last) {
  const Pattern& p = job.pattern;
  const int64_t count = p.count(), most = std::max<int64_t>(l1_bytes() / (BATCH * 4 * 3), T_BLOCK);
  const int64_t pivot = std::lower_bound(p.offsets.begin(), p.offsets.end(), p.period - t) - p.offsets.begin();
  thread_local std::vector<int64_t> starts, index;
  starts.clear();
  index.clear();
  for (int64_t n = count * part / parts; n < count * (part + 1) / parts; ++n) {
    const int64_t j = pivot + n < count ? pivot + n : pivot + n - count;
    starts.push_back((t + p.offsets[j]) % p.period);
    index.push_back(p.index[j]);
  }
  const int64_t size = starts.size(), whole = p.period - T_BLOCK;  // starts beyond `whole` wrap
  for (int64_t begin = 0, end; begin < size; begin = end) {
    for (end = begin + 1; end < size; ++end)
      if (starts[end] - starts[begin] > most || (starts[begin] <= whole && starts[end] > whole)) break;
    add_window(job, {&starts[begin], &index[begin], end - begin}, t, first, last);
  }
}

}  // namespace dynadiag
