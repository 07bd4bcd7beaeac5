// y = x A^T + b for the diagonals that alpha ranks first, with all its gradients, as one node of
// autograd: in Python the operators around the three products took 0.7 of 1.9 ms of a step of a
// 768 x 768 layer (batch 197, two cores). `dynadiag/selected_operators.py` and `khot.py` say the
// same for every device.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/sub.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/functions/basic_ops.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "autograd.h"

namespace dynadiag {

// Diagonals in the order of their offsets, and which of them count.
struct Selection {
  Tensor offsets;  // (n,) int64
  Tensor chosen;   // (n,) bool
};

// The `most` diagonals of the largest alpha, of which the k largest are chosen. As torch sorts: NaN
// is larger than anything, and of equal ones the first wins.
inline Selection largest_first(const Tensor& alpha, int64_t k, int64_t most) {
  const Tensor scores = alpha.to(at::kFloat).contiguous();
  const float* a = scores.const_data_ptr<float>();
  const auto before = [a](int64_t i, int64_t j) {
    if (std::isnan(a[i]) != std::isnan(a[j])) return std::isnan(a[i]);
    if (a[i] != a[j] && !std::isnan(a[i])) return a[i] > a[j];
    return i < j;
  };
  std::vector<int64_t> order(scores.numel());
  std::iota(order.begin(), order.end(), 0);
  std::nth_element(order.begin(), order.begin() + most, order.end(), before);
  std::nth_element(order.begin(), order.begin() + k, order.begin() + most, before);
  std::vector<bool> counts(order.size());
  for (int64_t i = 0; i < k; ++i) counts[order[i]] = true;
  std::sort(order.begin(), order.begin() + most);
  const Selection found{at::empty({most}, at::kLong), at::empty({most}, at::kBool)};
  std::copy_n(order.begin(), most, found.offsets.mutable_data_ptr<int64_t>());
  for (int64_t i = 0; i < most; ++i) found.chosen.mutable_data_ptr<bool>()[i] = counts[order[i]];
  return found;
}

// (count, D) whose row offsets[i] is rows[i] if chosen, and zero elsewhere: every byte written once.
inline Tensor scattered(const Tensor& rows, const Selection& selection, int64_t count) {
  const Tensor from = rows.contiguous();
  Tensor to = at::empty({count, from.size(1)}, from.options());
  std::vector<int64_t> source(count, -1);
  for (int64_t i = 0; i < from.size(0); ++i)
    if (selection.chosen.const_data_ptr<bool>()[i])
      source[selection.offsets.const_data_ptr<int64_t>()[i]] = i;
  const int64_t bytes = from.size(1) * from.element_size();
  const char* in = static_cast<const char*>(from.const_data_ptr());
  char* out = static_cast<char*>(to.mutable_data_ptr());
  at::parallel_for(0, count, std::max<int64_t>(1, (128 << 10) / bytes), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      if (source[row] < 0) std::memset(out + row * bytes, 0, bytes);
      else std::memcpy(out + row * bytes, in + source[row] * bytes, bytes);
    }
  });
  return to;
}

// Gradient of the scores of K-hot weights, given that of the weights; see `_tanh_by_numpy` and
// `_gradient_on_cpu` in khot.py, whose constants these are.
inline Tensor khot_gradient(const Tensor& upstream, const Tensor& scores, int64_t k, double temperature) {
  const Tensor halves = scores.to(at::kDouble).contiguous().div(2 * temperature);
  const Tensor weights = upstream.to(at::kDouble).contiguous();
  const double precision = scores.scalar_type() == at::kDouble ? 1e-14 : 1e-7;
  const double *h = halves.const_data_ptr<double>(), *g = weights.const_data_ptr<double>();
  const int64_t count = halves.numel();
  const double wanted = std::min(2.0 * k / count, 2 * (1 - 1e-6)) - 1;
  const auto [least, most] = std::minmax_element(h, h + count);
  double low = *least - std::atanh(wanted), high = *most - std::atanh(wanted), tau = (low + high) / 2;
  Tensor t;
  for (int step = 0; step < 100; ++step) {
    t = at::sub(halves, tau).tanh_();
    double sum = 0, squares = 0;
    const double* p = t.const_data_ptr<double>();
    for (int64_t i = 0; i < count; ++i) {
      sum += p[i];
      squares += p[i] * p[i];
    }
    const double excess = sum / count - wanted, slope = 1 - squares / count;
    if (std::abs(excess) <= precision) break;
    (excess > 0 ? low : high) = tau;
    tau = slope > 0 ? tau + excess / slope : std::numeric_limits<double>::infinity();
    if (!(low < tau && tau < high)) tau = (low + high) / 2;
  }
  double *p = t.mutable_data_ptr<double>(), total = 0, along = 0;
  for (int64_t i = 0; i < count; ++i) {
    p[i] = 1 - p[i] * p[i];
    total += p[i];
    along += p[i] * g[i];
  }
  const double mean = along / std::max(total, std::numeric_limits<double>::min());
  for (int64_t i = 0; i < count; ++i) p[i] *= (g[i] - mean) / (4 * temperature);
  return t;
}

// (n, D), zero where not chosen.
inline Tensor selected_values(const Tensor& values, const Selection& selection) {
  return at::index_select(values, 0, selection.offsets).mul_(selection.chosen.unsqueeze(1));
}

inline Tensor selected(const Tensor& x, const Tensor& values, const Tensor& alpha,
                       const std::optional<Tensor>& bias, const Tensor& /* for the backward */, int64_t k,
                       int64_t most, double /* too */, int64_t rows) {
  const Selection selection = largest_first(alpha, k, most);
  const Tensor kept = selected_values(values, selection).to(x.scalar_type());
  return multiply(x, kept, selection.offsets.to(at::kInt), bias, rows, false);
}

struct SelectedFunction : torch::autograd::Function<SelectedFunction> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& values, const Tensor& alpha,
                        const std::optional<Tensor>& bias, const Tensor& dense_gradient, int64_t k,
                        int64_t most, double temperature, int64_t rows) {
    const at::AutoDispatchBelowADInplaceOrView below;
    const Selection selection = largest_first(alpha, k, most);
    const Tensor kept = selected_values(values, selection);
    ctx->save_for_backward({x, alpha, dense_gradient, kept, selection.offsets, selection.chosen});
    ctx->saved_data["count"] = values.size(0);
    ctx->saved_data["k"] = k;
    ctx->saved_data["temperature"] = temperature;
    ctx->saved_data["has_bias"] = bias.has_value();
    return multiply(x, kept.to(x.scalar_type()), selection.offsets.to(at::kInt), bias, rows, false);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    variable_list result = gradients(ctx, grads[0]);
    return at::GradMode::is_enabled() ? once_differentiable(std::move(result)) : result;
  }

 private:
  static variable_list gradients(AutogradContext* ctx, const Tensor& grad) {
    const auto saved = ctx->get_saved_variables();  // may run the forward again, which records itself
    const at::AutoDispatchBelowADInplaceOrView below;
    const Tensor &x = saved[0], &alpha = saved[1], &kept = saved[3];
    const Selection selection{saved[4], saved[5]};
    const int64_t count = ctx->saved_data["count"].toInt(), rows = grad.size(-1), cols = x.size(-1);
    const Tensor offsets = selection.offsets.to(at::kInt);
    variable_list result(9);
    if (ctx->needs_input_grad(0)) {
      RECORD_USER_SCOPE("dynadiag_cpu::grad_x");
      result[0] = multiply(grad, kept.to(x.scalar_type()), offsets, std::nullopt, cols, rows == cols);
    }
    if (ctx->needs_input_grad(1) || ctx->needs_input_grad(2)) {
      RECORD_USER_SCOPE("dynadiag_cpu::grad_values");
      const bool dense = saved[2].item<bool>();
      const Tensor asked = dense ? at::arange(count, offsets.options()) : offsets;
      const Tensor sums = grad_values(grad, x, asked).to(kept.scalar_type());
      if (ctx->needs_input_grad(1)) result[1] = dense ? sums : scattered(sums, selection, count);
      if (ctx->needs_input_grad(2)) {
        const Tensor own = dense ? at::index_select(sums, 0, selection.offsets) : sums;
        Tensor of_all = at::zeros({count}, at::kDouble);
        of_all.index_copy_(0, selection.offsets, own.mul(kept).sum(1).to(at::kDouble));
        result[2] = khot_gradient(of_all, alpha, ctx->saved_data["k"].toInt(),
                                  ctx->saved_data["temperature"].toDouble())
                        .to(alpha.scalar_type());
      }
    }
    if (ctx->saved_data["has_bias"].toBool() && ctx->needs_input_grad(3))
      result[3] = at::sum(grad.reshape({-1, rows}), 0);
    return result;
  }

  // The gradients, of which a further derivative is an error and not zero.
  static variable_list once_differentiable(variable_list result) {
    for (Tensor& each : result)
      if (each.defined()) each = each.detach().set_requires_grad(true);
    const auto error = std::make_shared<torch::autograd::DelayedError>(
        "selected diagonals have no second derivatives; compact() the layer for those", result.size());
    return (*error)(std::move(result));
  }
};

inline Tensor selected_autograd(const Tensor& x, const Tensor& values, const Tensor& alpha,
                                const std::optional<Tensor>& bias, const Tensor& dense_gradient, int64_t k,
                                int64_t most, double temperature, int64_t rows) {
  return SelectedFunction::apply(x, values, alpha, bias, dense_gradient, k, most, temperature, rows);
}

}  // namespace dynadiag
