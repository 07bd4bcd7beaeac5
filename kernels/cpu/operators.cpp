// The CPU operators, registered as torch.ops.dynadiag_cpu.*: shapes, threads and types; the loops
// are in the headers.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include "autograd.h"
#include "grad_values.h"
#include "planted.h"
#include "row_product.h"
#include "selected.h"
#include "stream_product.h"
#include "tile_product.h"

namespace dynadiag {
namespace {

// Below this many batch rows transposing costs more than it saves.
constexpr int64_t TILE_BATCH = LANES;
// Up to this many diagonals an output the row kernel is the faster one at any batch: measured with
// AVX2 (equal at 38) and with AVX-512 (equal at 24), where every unaligned load touches two lines.
constexpr int64_t FEW_DIAGONALS = LANES > 8 ? 24 : 32;
// Multiply-adds that repay waking a thread: 59 k took 13 us on one AVX2 core, 10 us on two.
constexpr int64_t WORK_PER_THREAD = 16384;
// The same where values are streamed.
constexpr int64_t WORK_PER_STREAMING_THREAD = 65536;

// The kernels trust these; `dynadiag.functional` says the same in more words before it gets here.
void check_operands(const Tensor& a, const Tensor& b, const Tensor& offsets) {
  TORCH_CHECK_TYPE(a.scalar_type() == b.scalar_type(), "operands are ", a.dtype(), " and ", b.dtype());
  TORCH_CHECK_TYPE(offsets.scalar_type() == at::kInt, "offsets are ", offsets.dtype(), ", not int32");
  TORCH_CHECK_VALUE(offsets.dim() == 1 && a.dim() >= 1 && b.dim() >= 1 && a.size(-1) >= 1 && b.size(-1) >= 1,
                    "offsets must be a list, and every operand have columns");
}

void check_values(const Tensor& values, const Tensor& offsets, const std::optional<Tensor>& bias,
                  int64_t rows, int64_t cols) {
  TORCH_CHECK_VALUE(rows >= 1 && values.dim() == 2 && values.size(0) == offsets.numel() &&
                        values.size(1) == std::min(rows, cols),
                    "values have shape ", values.sizes(), ", not one row of ", std::min(rows, cols),
                    " for each of ", offsets.numel(), " offsets");
  TORCH_CHECK_VALUE(!bias || (bias->scalar_type() == values.scalar_type() && bias->numel() == rows),
                    "bias must hold ", rows, " numbers in the dtype of values");
}

void check_offsets(const Tensor& offsets, int64_t period) {
  const Tensor list = offsets.contiguous();
  const int32_t* o = list.const_data_ptr<int32_t>();
  std::vector<bool> seen(period);
  for (int64_t k = 0; k < offsets.numel(); ++k) {
    TORCH_CHECK_VALUE(o[k] >= 0 && o[k] < period, "offset ", o[k], " is outside [0, ", period,
                      "), the candidate diagonals of this matrix; take it modulo ", period);
    TORCH_CHECK_VALUE(!seen[o[k]], "offset ", o[k], " is given twice; each diagonal may appear once");
    seen[o[k]] = true;
  }
}

int64_t thread_count(int64_t work, int64_t work_per_thread = WORK_PER_THREAD) {
  return std::clamp<int64_t>(work / work_per_thread, 1, at::get_num_threads());
}

// Calls f(task) for each of `tasks`, on at most `threads` threads.
template <typename F>
void parallel(int64_t threads, int64_t tasks, const F& f) {
  at::parallel_for(0, tasks, (tasks + threads - 1) / threads, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) f(task);
  });
}

// A share of the product: batch rows [first, last), outputs [row_first, row_last).
struct Share {
  int64_t first, last, row_first, row_last;
};

// Calls f(Share) on each thread. Threads share the batch in units of `unit` rows; where it is too
// short for that they also share the outputs, in blocks of `block`.
template <typename F>
void share_out(const Pattern& p, int64_t batch, int64_t unit, int64_t block, const F& f) {
  const int64_t threads = thread_count(p.count() * p.length() * batch);
  const int64_t units = (batch + unit - 1) / unit, blocks = (p.rows + block - 1) / block;
  const int64_t batch_parts = std::min(units, threads);
  const int64_t row_parts = std::min(threads / batch_parts, blocks);
  parallel(threads, batch_parts * row_parts, [&](int64_t part) {
    const int64_t b = part / row_parts, r = part % row_parts;
    f(Share{units * b / batch_parts * unit, std::min(units * (b + 1) / batch_parts * unit, batch),
            blocks * r / row_parts * block, std::min(blocks * (r + 1) / row_parts * block, p.rows)});
  });
}

template <typename T>
void stream(const Product<T>& job, int64_t row) {
  const Pattern& p = job.pattern;
  const int64_t parts = thread_count(p.count() * p.length(), WORK_PER_STREAMING_THREAD);
  const StreamedRow<T> streamed(job, row, parts);
  parallel(parts, parts, [&](int64_t part) { streamed.add(part); });
  streamed.finish();
}

template <typename T>
void product(const Product<T>& job, int64_t batch) {
  const Pattern& p = job.pattern;
  const int64_t diagonals_per_output = p.count() * p.length() / p.rows;
  if (batch < ROW_BATCH)
    for (int64_t row = 0; row < batch; ++row) stream(job, row);
  else if (batch < TILE_BATCH || diagonals_per_output <= FEW_DIAGONALS)
    share_out(p, batch, ROW_BATCH, SINGLE_VECS * GROUP_VECS * LANES, [&](const Share& s) {
      multiply_rows(p, job.x, job.values, job.bias, job.y, s.first, s.last, s.row_first, s.row_last);
    });
  else
    share_out(p, batch, LANES, ROWS, [&](const Share& s) {
      multiply_tiles(job, s.first, s.last, s.row_first, s.row_last);
    });
}

}  // namespace

// y = x A^T + b; A is (rows, x.size(-1)), or with `transposed` the transpose of such a square matrix.
Tensor multiply(const Tensor& x, const Tensor& values, const Tensor& offsets,
                const std::optional<Tensor>& bias, int64_t rows, bool transposed) {
  const planted::Slowdown slowdown;
  check_operands(x, values, offsets);
  const int64_t cols = x.size(-1);
  check_values(values, offsets, bias, rows, cols);
  check_offsets(offsets, std::max(rows, cols));
  auto sizes = x.sizes().vec();
  sizes.back() = rows;
  Tensor y = at::empty(sizes, x.options());
  const int64_t batch = x.numel() / cols;
  if (batch == 0) return y;
  const Tensor input = x.contiguous(), v = values.contiguous(), o = offsets.contiguous();
  const Tensor b = bias ? bias->contiguous() : Tensor();
  const Pattern p = make_pattern(o.const_data_ptr<int32_t>(), o.numel(), rows, cols, transposed);
  const auto run = [&](auto zero) {
    using T = decltype(zero);
    const Product<T> job{p, input.const_data_ptr<T>(), v.const_data_ptr<T>(),
                         b.defined() ? b.const_data_ptr<T>() : nullptr, y.mutable_data_ptr<T>()};
    product(job, batch);
  };
  if (x.scalar_type() == at::kFloat) run(0.0f);
  else if (x.scalar_type() == at::kBFloat16) run(c10::BFloat16());
  else if (x.scalar_type() == at::kHalf) run(c10::Half());
  else TORCH_CHECK_TYPE(false, "the cpu kernels take float32, bfloat16 and float16, not ", x.dtype());
  return planted::result(y);
}

// Batch rows a pass of grad_values: both operands take half the L2 cache while all blocks visit
// them. With twice the L2 a pass took 1.1 to 2.5 times as long on a Sapphire Rapids core.
static int64_t batch_chunk(int64_t columns) {
  const int64_t rows = l2_bytes() / 2 / 4 / columns / BATCH * BATCH;
  return std::max<int64_t>(rows, 4 * BATCH);
}

// (K, D) gradient of the values of an (M, N) matrix; grad is (..., M), x is (..., N).
Tensor grad_values(const Tensor& grad, const Tensor& x, const Tensor& offsets) {
  const planted::Slowdown slowdown;
  check_operands(grad, x, offsets);
  TORCH_CHECK_VALUE(grad.numel() / grad.size(-1) == x.numel() / x.size(-1),
                    "grad and x differ in their leading dimensions: ", grad.sizes(), ", ", x.sizes());
  const int64_t rows = grad.size(-1), cols = x.size(-1), batch = x.numel() / cols;
  check_offsets(offsets, std::max(rows, cols));
  const Tensor g = grad.contiguous(), in = x.contiguous(), o = offsets.contiguous();
  const Pattern p = make_pattern(o.const_data_ptr<int32_t>(), o.numel(), rows, cols, false);
  Tensor sums = at::zeros({p.count(), p.length()}, x.options().dtype(at::kFloat));
  const int64_t threads = thread_count(p.count() * p.length() * batch);
  const int64_t blocks = (p.length() + T_BLOCK - 1) / T_BLOCK;
  const int64_t parts = std::min((2 * threads + blocks - 1) / blocks, p.count());
  const int64_t chunk = batch_chunk(rows + cols);
  const auto run = [&](auto zero) {
    using T = decltype(zero);
    const T* gp = g.const_data_ptr<T>();
    const T* xp = in.const_data_ptr<T>();
    const GradValues<T> job{p, p.rotated ? xp : gp, p.rotated ? gp : xp, sums.mutable_data_ptr<float>()};
    for (int64_t first = 0; first < batch; first += chunk)
      parallel(threads, blocks * parts, [&](int64_t task) {
        add_block(job, task / parts * T_BLOCK, task % parts, parts, first, std::min(first + chunk, batch));
      });
  };
  if (x.scalar_type() == at::kFloat) run(0.0f);
  else if (x.scalar_type() == at::kBFloat16) run(c10::BFloat16());
  else if (x.scalar_type() == at::kHalf) run(c10::Half());
  else TORCH_CHECK_TYPE(false, "the cpu kernels take float32, bfloat16 and float16, not ", x.dtype());
  return planted::result(sums.to(x.scalar_type()));
}

}  // namespace dynadiag

TORCH_LIBRARY(dynadiag_cpu, m) {
  m.def("multiply(Tensor x, Tensor values, Tensor offsets, Tensor? bias, int rows, bool transposed) -> Tensor");
  m.def("grad_values(Tensor grad, Tensor x, Tensor offsets) -> Tensor");
  m.def(
      "selected(Tensor x, Tensor values, Tensor alpha, Tensor? bias, Tensor dense_gradient, int k, int most, "
      "float temperature, int rows) -> Tensor");
}

TORCH_LIBRARY_IMPL(dynadiag_cpu, CPU, m) {
  m.impl("multiply", dynadiag::multiply);
  m.impl("grad_values", dynadiag::grad_values);
  m.impl("selected", dynadiag::selected);
}

TORCH_LIBRARY_IMPL(dynadiag_cpu, AutogradCPU, m) {
  m.impl("multiply", dynadiag::multiply_autograd);
  m.impl("grad_values", dynadiag::grad_values_autograd);
  m.impl("selected", dynadiag::selected_autograd);
}
