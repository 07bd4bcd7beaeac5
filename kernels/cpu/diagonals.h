// The wrapped diagonals of one product y = x A^T, seen from a block of output rows.
//
// A is (rows, cols), made of K diagonals of length D = min(rows, cols). Two index maps exist
// (arXiv 2506.11449, appendix A; transposing a matrix turns one into the other):
//   plain    value i of offset s stands at (i, (i + s) mod cols)      rows <= cols
//   rotated  value i of offset s stands at ((i + s) mod rows, i)      rows >= cols
// Both read "output row r takes input u + (r - r0)" with u = (r0 + s) or (r0 - s), modulo `period`.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <type_traits>
#include <vector>

#include "vec.h"

namespace dynadiag {

struct Pattern {
  int64_t rows, cols, period;
  bool rotated;
  std::vector<int64_t> offsets;  // ascending
  std::vector<int64_t> index;    // offsets[j] is diagonal index[j] of `values`

  int64_t count() const { return static_cast<int64_t>(offsets.size()); }
  int64_t length() const { return std::min(rows, cols); }

  // Input that output row `row` takes on a diagonal; inputs >= cols do not exist.
  int64_t input(int64_t row, int64_t offset) const {
    int64_t u = rotated ? row - offset : row + offset;
    return u < 0 ? u + period : u >= period ? u - period : u;
  }
};

inline Pattern make_pattern(const int32_t* offsets, int64_t count, int64_t rows, int64_t cols,
                            bool transposed) {
  Pattern p{rows, cols, 0, rows > cols || (rows == cols && !transposed), {}, {}};
  p.period = p.rotated ? rows : cols;
  p.index.resize(count);
  std::iota(p.index.begin(), p.index.end(), 0);
  if (!std::is_sorted(offsets, offsets + count))
    std::sort(p.index.begin(), p.index.end(),
              [&](int64_t a, int64_t b) { return offsets[a] < offsets[b]; });
  p.offsets.resize(count);
  for (int64_t k = 0; k < count; ++k) p.offsets[k] = offsets[p.index[k]];
  return p;
}

template <int SIZE, typename T>
inline void convert(const T* from, float* to) {
#pragma GCC unroll 4
  for (int i = 0; i < SIZE; i += LANES) store(to + i, load(from + i));
}

// A run of output rows on one diagonal over which input and value index both count up by one.
struct Run {
  int64_t row, input, value, size;
};

// Calls f(Run) for the at most three runs of rows [first, last) on the diagonal `offset`.
template <typename F>
void for_each_run(const Pattern& p, int64_t offset, int64_t first, int64_t last, F f) {
  for (int64_t row = first; row < last;) {
    const int64_t u = p.input(row, offset);
    const int64_t size = std::min(last - row, p.period - u);
    const int64_t real = std::min(size, p.cols - u);
    if (real > 0) f(Run{row, u, p.rotated ? u : row, real});
    row += size;
  }
}

// The diagonals that meet output rows [first, first + ROWS), made ready for the tile kernel.
// starts[e] is the input of row `first`, possibly negative or beyond cols where the diagonal
// enters or leaves within the block; there its values are zero. values[e] points to the ROWS
// values: where they stand if they are floats and all there, else to a copy.
template <int ROWS>
struct PackedBlock {
  std::vector<int64_t> starts;
  std::vector<const float*> values;

  template <typename T>
  void pack(const Pattern& p, const T* source, int64_t first) {
    const int64_t count = p.count();
    starts.clear();
    values.clear();
    copies.resize(count * ROWS);
    // Ascending inputs: plain follows ascending offsets from the first that wraps, rotated the
    // descending ones from the first that reaches into the block. What misses the block comes last.
    const auto at = [&](int64_t offset) {
      return std::lower_bound(p.offsets.begin(), p.offsets.end(), offset) - p.offsets.begin();
    };
    const int64_t reach = first + ROWS;
    const int64_t pivot = p.rotated ? at(reach > p.rows ? reach - p.rows : reach) : at(p.cols - first);
    for (int64_t n = 0; n < count; ++n) {
      int64_t j = p.rotated ? pivot - 1 - n : pivot + n;
      j = j < 0 ? j + count : j >= count ? j - count : j;
      if (!add(p, source + p.index[j] * p.length(), p.offsets[j], first)) break;
    }
  }

 private:
  std::vector<float> copies;

  // False where the diagonal meets no row of the block.
  template <typename T>
  bool add(const Pattern& p, const T* source, int64_t offset, int64_t first) {
    const int64_t last = std::min(first + ROWS, p.rows);
    int64_t start = p.input(first, offset);
    if (start >= p.cols) {
      if (start + ROWS <= p.period) return false;
      start -= p.period;
    }
    const bool whole = start >= 0 && start + ROWS <= p.cols && last - first == ROWS;
    const T* from = source + (p.rotated ? start : first);
    float* copy = copies.data() + starts.size() * ROWS;
    if constexpr (std::is_same_v<T, float>) values.push_back(whole ? from : copy);
    else values.push_back(copy);
    if (!whole) {
      std::fill(copy, copy + ROWS, 0.0f);
      for_each_run(p, offset, first, last, [&](const Run& run) {
        const T* in = source + run.value;
        for (int64_t i = 0; i < run.size; ++i) copy[run.row - first + i] = static_cast<float>(in[i]);
      });
    } else if constexpr (!std::is_same_v<T, float>) {
      convert<ROWS>(from, copy);
    }
    starts.push_back(start);
    return true;
  }
};

}  // namespace dynadiag
