// Gradients of the two operators in C++. Each is the gradient of the other, so any order follows;
// a step through Python's autograd takes 100 us longer.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/sum.h>
#include <ATen/record_function.h>
#include <torch/csrc/autograd/custom_function.h>

namespace dynadiag {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

Tensor multiply(const Tensor& x, const Tensor& values, const Tensor& offsets,
                const std::optional<Tensor>& bias, int64_t rows, bool transposed);
Tensor grad_values(const Tensor& grad, const Tensor& x, const Tensor& offsets);
Tensor multiply_autograd(const Tensor& x, const Tensor& values, const Tensor& offsets,
                         const std::optional<Tensor>& bias, int64_t rows, bool transposed);
Tensor grad_values_autograd(const Tensor& grad, const Tensor& x, const Tensor& offsets);

inline bool wanted(const Tensor& tensor) { return tensor.requires_grad(); }

// y = x A^T + b
struct MultiplyFunction : torch::autograd::Function<MultiplyFunction> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& values, const Tensor& offsets,
                        const std::optional<Tensor>& bias, int64_t rows, bool transposed) {
    const at::AutoDispatchBelowADInplaceOrView below;
    ctx->save_for_backward({x, values, offsets});
    ctx->saved_data["transposed"] = transposed;
    ctx->saved_data["has_bias"] = bias.has_value();
    return multiply(x, values, offsets, bias, rows, transposed);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &x = saved[0], &values = saved[1], &offsets = saved[2], &g = grads[0];
    const bool transposed = ctx->saved_data["transposed"].toBool();
    const int64_t rows = g.size(-1), cols = x.size(-1);
    variable_list result(6);
    if (ctx->needs_input_grad(0)) {
      RECORD_USER_SCOPE("dynadiag_cpu::grad_x");  // called directly, it would be missing in profiles
      result[0] = multiply_autograd(g, values, offsets, std::nullopt, cols, rows == cols && !transposed);
    }
    if (ctx->needs_input_grad(1)) {
      RECORD_USER_SCOPE("dynadiag_cpu::grad_values");
      result[1] = transposed ? grad_values_autograd(x, g, offsets) : grad_values_autograd(g, x, offsets);
    }
    if (ctx->saved_data["has_bias"].toBool() && ctx->needs_input_grad(3))
      result[3] = at::sum(g.reshape({-1, rows}), 0);
    return result;
  }
};

struct GradValuesFunction : torch::autograd::Function<GradValuesFunction> {
  static Tensor forward(AutogradContext* ctx, const Tensor& grad, const Tensor& x, const Tensor& offsets) {
    const at::AutoDispatchBelowADInplaceOrView below;
    ctx->save_for_backward({grad, x, offsets});
    return grad_values(grad, x, offsets);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& directions) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &grad = saved[0], &x = saved[1], &offsets = saved[2], &values = directions[0];
    const int64_t rows = grad.size(-1), cols = x.size(-1);
    variable_list result(3);
    if (ctx->needs_input_grad(0))
      result[0] = multiply_autograd(x, values, offsets, std::nullopt, rows, false);
    if (ctx->needs_input_grad(1))
      result[1] = multiply_autograd(grad, values, offsets, std::nullopt, cols, rows == cols);
    return result;
  }
};

inline Tensor multiply_autograd(const Tensor& x, const Tensor& values, const Tensor& offsets,
                                const std::optional<Tensor>& bias, int64_t rows, bool transposed) {
  if (at::GradMode::is_enabled() && (wanted(x) || wanted(values) || (bias && wanted(*bias))))
    return MultiplyFunction::apply(x, values, offsets, bias, rows, transposed);
  const at::AutoDispatchBelowADInplaceOrView below;
  return multiply(x, values, offsets, bias, rows, transposed);
}

inline Tensor grad_values_autograd(const Tensor& grad, const Tensor& x, const Tensor& offsets) {
  if (at::GradMode::is_enabled() && (wanted(grad) || wanted(x))) return GradValuesFunction::apply(grad, x, offsets);
  const at::AutoDispatchBelowADInplaceOrView below;
  return grad_values(grad, x, offsets);
}

}  // namespace dynadiag
