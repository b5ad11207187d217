"""Torch's own decompositions that we choose on purpose, each group with what XLA makes of it.

An operator that stands neither here nor in `kernels/` nor in `rewrites/` comes apart by torch's decomposition all the
same, if it has one; `tpu-dynamo ops` then says so without a reason.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ._torch_compat import OpOverload, torch_decomposition
from .table import How, Lowering, add

aten = torch.ops.aten

_CHOSEN: dict[str, tuple[OpOverload, ...]] = {
    "A chain of elementwise operators, which XLA makes one fusion; half precision is computed in float32.": (
        aten._prelu_kernel.default,
        aten.celu.default,
        aten.elu.default,
        aten.glu.default,
        aten.hardsigmoid.default,
        aten.hardswish.default,
        aten.hardtanh.default,
        aten.isin.Tensor_Tensor,
        aten.ldexp.Tensor,
        aten.lerp.Scalar,
        aten.lerp.Tensor,
        aten.logit.default,
        aten.log_sigmoid_forward.default,
        aten.mish.default,
        aten.mvlgamma.default,
        aten.nan_to_num.default,
        aten.round.decimals,
        aten.sinc.default,
        aten.special_entr.default,
        aten.special_xlog1py.default,
        aten.special_xlog1py.other_scalar,
        aten.special_xlog1py.self_scalar,
        aten.special_zeta.default,
        aten.xlogy.Scalar_Other,
        aten.xlogy.Scalar_Self,
        aten.xlogy.Tensor,
    ),
    "The gradient as a chain of elementwise operators: one fusion, and nothing is kept but the inputs.": (
        aten._prelu_kernel_backward.default,
        aten.binary_cross_entropy_backward.default,
        aten.elu_backward.default,
        aten.glu_backward.default,
        aten.hardsigmoid_backward.default,
        aten.hardswish_backward.default,
        aten.hardtanh_backward.default,
        aten.huber_loss_backward.default,
        aten.log_sigmoid_backward.default,
        aten.mish_backward.default,
        aten.mse_loss_backward.default,
        aten.native_dropout_backward.default,
        aten.rrelu_with_noise_backward.default,
        aten.soft_margin_loss_backward.default,
    ),
    "Elementwise operators and one reduction, which XLA fuses into the reduction's input.": (
        aten.binary_cross_entropy.default,
        aten.binary_cross_entropy_with_logits.default,
        aten.dist.default,
        aten.huber_loss.default,
        aten.linalg_vector_norm.default,
        aten.mse_loss.default,
        aten.norm.Scalar,
        aten.norm.ScalarOpt_dim,
        aten.norm.ScalarOpt_dim_dtype,
        aten.norm.ScalarOpt_dtype,
        aten.renorm.default,
        aten.smooth_l1_loss.default,
        aten.soft_margin_loss.default,
        aten.trace.default,
    ),
    "A constant: XLA folds the operators that make it, and stores nothing.": (
        aten.arange.default,
        aten.arange.start,
        aten.empty_like.default,
        aten.eye.default,
        aten.linspace.Scalar_Tensor,
        aten.linspace.Tensor_Scalar,
        aten.linspace.Tensor_Tensor,
        aten.linspace.default,
        aten.logspace.Scalar_Tensor,
        aten.logspace.Tensor_Scalar,
        aten.logspace.Tensor_Tensor,
        aten.logspace.default,
        aten.new_empty.default,
        aten.new_empty_strided.default,
        aten.new_full.default,
        aten.new_ones.default,
        aten.new_zeros.default,
        aten.ones.default,
        aten.ones_like.default,
        aten.zero.default,
        aten.zeros.default,
        aten.zeros_like.default,
    ),
    "A select between the values and a constant, fused into whatever reads it.": (
        aten.masked_fill.Scalar,
        aten.masked_fill.Tensor,
    ),
    "Reshapes and transposes, most of which are free in XLA's layouts.": (
        aten.channel_shuffle.default,
        aten.diag_embed.default,
        aten.pixel_shuffle.default,
        aten.pixel_unshuffle.default,
        aten.rot90.default,
        aten.unsafe_split.Tensor,
        aten.unsafe_split_with_sizes.default,
    ),
    "Concatenations and pads, which XLA writes straight into the result.": (
        aten._chunk_cat.default,
        aten.block_diag.default,
        aten.stack.default,
    ),
    "One gather or scatter through index or index_put, whose kernels know PyTorch's rules.": (
        aten._unsafe_masked_index.default,
        aten._unsafe_masked_index_put_accumulate.default,
        aten.index_fill.int_Scalar,
        aten.index_fill.int_Tensor,
        aten.max_unpool2d.default,
        aten.max_unpool3d.default,
        aten.nll_loss2d_forward.default,
        aten.nll_loss_forward.default,
    ),
    "The operator of one batch normalisation, which has a kernel, and the running statistics after it.": (
        aten._batch_norm_with_update_functional.default,
        aten.batch_norm_backward.default,
    ),
}


def _chosen(overload: OpOverload) -> Callable[..., Any]:
    function = torch_decomposition(overload)
    if function is None:
        raise TypeError(f"torch has no decomposition of {overload}")
    return function


for _reason, _overloads in _CHOSEN.items():
    for _overload in _overloads:
        add(Lowering(_overload, How.DECOMPOSITION, _reason, _chosen(_overload)))
