"""Arguments for operators whose schemas say too little of what they take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

aten, prims = torch.ops.aten, torch.ops.prims


def some(*shape: int) -> Tensor:
    """Numbers between 0.1 and 0.9."""
    return torch.rand(shape) * 0.8 + 0.1


def places(high: int, *shape: int) -> Tensor:
    """Indices below a number."""
    return torch.randint(0, high, shape)


def halves(*shape: int) -> Tensor:
    """Numbers between 0.1 and 0.9 in bfloat16."""
    return some(*shape).bfloat16()


def _cdist() -> list[Any]:
    x, y = some(3, 4), some(5, 4)
    return [some(3, 5), x, y, 2.0, torch.cdist(x, y)]


def _layer_norm_backward(operator: Any) -> list[Any]:
    x, weight = some(3, 4), some(4)
    if operator is aten._fused_rms_norm_backward.default:
        return [some(3, 4), x, [4], aten._fused_rms_norm(x, [4], weight, 1e-5)[1], weight, [True, True]]
    _, mean, rstd = aten.native_layer_norm(x, [4], weight, weight, 1e-5)
    return [some(3, 4), x, [4], mean, rstd, weight, weight, [True] * 3]


def _nll(rank: int) -> list[Any]:
    x, target = some(3, 5, *(2,) * rank), places(5, 3, *(2,) * rank)
    forward = aten.nll_loss2d_forward if rank else aten.nll_loss_forward
    value, weight = forward(x, target, None, 1, -100)
    return [torch.ones_like(value), x, target, None, 1, -100, weight]


def _max_pool(rank: int) -> list[Any]:
    x = some(1, 2, *(4,) * rank)
    forward = (aten.max_pool2d_with_indices, aten.max_pool3d_with_indices)[rank - 2]
    value, indices = forward(x, [2])
    return [torch.ones_like(value), x, [2] * rank, [2] * rank, [0] * rank, [1] * rank, False, indices]


def _fractional(rank: int) -> list[Any]:
    x = some(1, 2, *(5,) * rank)
    forward = (aten.fractional_max_pool2d, aten.fractional_max_pool3d)[rank - 2]
    value, indices = forward(x, [2] * rank, [3] * rank, some(1, 2, rank))
    return [torch.ones_like(value), x, [2] * rank, [3] * rank, indices]


def _adaptive(rank: int) -> list[Any]:
    x = some(1, 2, *(5,) * rank)
    forward = (aten.adaptive_max_pool2d, aten.adaptive_max_pool3d)[rank - 2]
    value, indices = forward(x, [2] * rank)
    return [torch.ones_like(value), x, indices]


def _pad_backward(rank: int) -> list[Any]:
    shape = (1, 2, *(4,) * rank)
    return [some(*shape[:2], *(6,) * rank), some(*shape), [1, 1] * rank]


def _upsample_backward(rank: int, *corners: bool) -> list[Any]:
    return [some(1, 2, *(6,) * rank), [6] * rank, [1, 2, *[4] * rank], *corners]


def _bag(weights: Tensor | None = None) -> list[Any]:
    return [some(5, 4), places(5, 6), torch.tensor([0, 2, 2]), False, 0, False, weights]


def _bag_backward(operator: Any) -> list[Any]:
    weight, indices, offsets = some(5, 4), places(5, 6), torch.tensor([0, 2, 4])
    value, bag, size, largest = aten._embedding_bag(weight, indices, offsets, False, 1)
    grad = torch.ones_like(value)
    if operator is aten._embedding_bag_per_sample_weights_backward.default:
        bag = aten._embedding_bag(weight, indices, offsets, False, 0, False, some(6))[1]
        return [grad, weight, indices, offsets, bag, 0]
    if operator is aten._embedding_bag_dense_backward.default:
        return [grad, indices, bag, size, largest, 5, False, 1, None]
    return [grad, indices, offsets, bag, size, largest, 5, False, 1, False, None]


def _foreach() -> list[Any]:
    lists = [[some(3, 4), some(2)] for _ in range(3)]
    return [*lists, torch.tensor([0.5, 2.0])]


def _lu() -> tuple[Tensor, Tensor]:
    found = torch.linalg.lu_factor(some(4, 4) + 2 * torch.eye(4))
    return found[0], found[1]


def _ldl() -> tuple[Tensor, Tensor]:
    matrix = some(4, 4)
    found = torch.linalg.ldl_factor(matrix + matrix.T)
    return found[0], found[1]


def _lstm() -> list[Any]:
    return [some(2, 12), some(2, 12), some(2, 3), some(12), some(12)]


def _convolution(bias: Any, *rest: Any) -> list[Any]:
    return [some(1, 2, 5, 5), some(3, 2, 3, 3), bias, [1], [0], [1], False, [0], 1, *rest]


def _encoder() -> list[Any]:
    weights = [some(24, 8), some(24), some(8, 8), some(8)]
    norms = [some(8), some(8), some(8), some(8)]
    return [some(2, 3, 8), 8, 2, *weights, True, False, 1e-5, *norms, some(16, 8), some(16), some(8, 16), some(8)]


HAND_WRITTEN: dict[Any, Callable[[], list[Any]]] = {
    aten._cdist_backward.default: _cdist,
    aten._cholesky_solve_helper.default: lambda: [some(3, 2), torch.linalg.cholesky(some(3, 3) @ some(3, 3).T * 0 + torch.eye(3)), False],
    aten._embedding_bag.default: _bag,
    aten._embedding_bag_forward_only.default: _bag,
    aten._embedding_bag_backward.default: lambda: _bag_backward(aten._embedding_bag_backward.default),
    aten._embedding_bag_dense_backward.default: lambda: _bag_backward(aten._embedding_bag_dense_backward.default),
    aten._embedding_bag_per_sample_weights_backward.default: lambda: _bag_backward(
        aten._embedding_bag_per_sample_weights_backward.default
    ),
    aten._foreach_addcdiv.Tensor: _foreach,
    aten._foreach_addcmul.Tensor: _foreach,
    aten._fused_rms_norm_backward.default: lambda: _layer_norm_backward(aten._fused_rms_norm_backward.default),
    aten._fft_c2r.default: lambda: [torch.fft.rfft(some(3, 4)), [1], 2, 4],
    aten._histogramdd_from_bin_tensors.default: lambda: [some(6, 1), [torch.linspace(0, 1, 4)]],
    aten._int_mm.default: lambda: [places(9, 17, 8).to(torch.int8), places(9, 8, 8).to(torch.int8)],
    aten._log_softmax.default: lambda: [some(3, 4), 1, False],
    aten._native_multi_head_attention.default: lambda: [*[some(2, 3, 8)] * 3, 8, 2, some(24, 8), some(24), some(8, 8), some(8)],
    aten._pdist_backward.default: lambda: [some(3), torch.arange(12.0).view(3, 4), 2.0, torch.pdist(torch.arange(12.0).view(3, 4))],
    aten._scaled_dot_product_flash_attention_for_cpu_backward.default: lambda: _attention(),
    aten._slow_conv2d_forward.default: lambda: [some(1, 2, 5, 5), some(3, 2, 3, 3), [3, 3], None, [1, 1], [0, 0]],
    aten._slow_conv2d_backward.output_mask: lambda: [some(1, 3, 3, 3), some(1, 2, 5, 5), some(3, 2, 3, 3), [3, 3], [1, 1], [0, 0], [True] * 3],
    aten._softmax.default: lambda: [some(3, 4), 1, False],
    aten._transformer_encoder_layer_fwd.default: _encoder,
    aten._upsample_bicubic2d_aa_backward.default: lambda: _upsample_backward(2, False),
    aten._upsample_bilinear2d_aa_backward.default: lambda: _upsample_backward(2, False),
    aten._upsample_nearest_exact1d_backward.default: lambda: _upsample_backward(1),
    aten._upsample_nearest_exact2d_backward.default: lambda: _upsample_backward(2),
    aten._upsample_nearest_exact3d_backward.default: lambda: _upsample_backward(3),
    aten._weight_norm_interface.default: lambda: [some(3, 4), some(3, 1)],
    aten._weight_norm_interface_backward.default: lambda: [some(3, 4), *(lambda v, g: [v, g, aten._weight_norm_interface(v, g, 0)[1], 0])(some(3, 4), some(3, 1))],
    aten.adaptive_max_pool2d_backward.default: lambda: _adaptive(2),
    aten.adaptive_max_pool3d_backward.default: lambda: _adaptive(3),
    aten.addbmm.default: lambda: [some(3, 5), some(2, 3, 4), some(2, 4, 5)],
    aten.addmv.default: lambda: [some(3), some(3, 4), some(4)],
    aten.as_strided_scatter.default: lambda: [some(3, 4), some(2, 2), [2, 2], [5, 1], 1],
    aten.avg_pool2d_backward.default: lambda: [some(1, 2, 2, 2), some(1, 2, 4, 4), [2, 2], [2, 2], [0, 0], False, True, None],
    aten.avg_pool3d_backward.default: lambda: [some(1, 2, 2, 2, 2), some(1, 2, 4, 4, 4), [2] * 3, [2] * 3, [0] * 3, False, True, None],
    aten.binary_cross_entropy.default: lambda: [some(3, 4), some(3, 4)],
    aten.binary_cross_entropy_backward.default: lambda: [some(3, 4), some(3, 4), some(3, 4)],
    aten.binary_cross_entropy_with_logits.default: lambda: [some(3, 4), some(3, 4)],
    aten.clamp.default: lambda: [some(3, 4), 0.3],
    aten.col2im.default: lambda: [some(1, 8, 4), [3, 3], [2, 2], [1, 1], [0, 0], [1, 1]],
    aten.conv_tbc.default: lambda: [some(5, 2, 3), some(2, 3, 4), some(4)],
    aten.convolution.default: lambda: _convolution(some(3)),
    aten._convolution.default: lambda: _convolution(some(3), False, False, True, True),
    aten.convolution_backward.default: lambda: [some(1, 3, 3, 3), some(1, 2, 5, 5), some(3, 2, 3, 3), [3], [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [True] * 3],
    aten.div.Scalar_mode: lambda: [some(3, 4), 0.3],
    aten.div.Tensor_mode: lambda: [some(3, 4), some(3, 4)],
    aten.embedding_dense_backward.default: lambda: [some(3, 4), places(5, 3), 5, -1, False],
    aten.fractional_max_pool2d.default: lambda: [some(1, 2, 5, 5), [2, 2], [3, 3], some(1, 2, 2)],
    aten.fractional_max_pool3d.default: lambda: [some(1, 2, 5, 5, 5), [2] * 3, [3] * 3, some(1, 2, 3)],
    aten.fractional_max_pool2d_backward.default: lambda: _fractional(2),
    aten.fractional_max_pool3d_backward.default: lambda: _fractional(3),
    aten.glu_backward.default: lambda: [some(3, 2), some(3, 4), 1],
    aten.grid_sampler_2d.default: lambda: [some(1, 2, 4, 4), some(1, 3, 3, 2), 0, 0, False],
    aten.grid_sampler_3d.default: lambda: [some(1, 2, 4, 4, 4), some(1, 3, 3, 3, 3), 0, 0, False],
    aten.grid_sampler_2d_backward.default: lambda: [some(1, 2, 3, 3), some(1, 2, 4, 4), some(1, 3, 3, 2), 0, 0, False, [True, True]],
    aten.grid_sampler_3d_backward.default: lambda: [some(1, 2, 3, 3, 3), some(1, 2, 4, 4, 4), some(1, 3, 3, 3, 3), 0, 0, False, [True, True]],
    aten.huber_loss_backward.default: lambda: [some(3, 4), some(3, 4), some(3, 4), 0, 1.0],
    aten.linalg_cross.default: lambda: [some(2, 3), some(2, 3)],
    aten.linalg_ldl_solve.default: lambda: [*_ldl(), some(4, 2)],
    aten.linalg_lu_solve.default: lambda: [*_lu(), some(4, 2)],
    aten.lu_unpack.default: lambda: [*_lu()],
    aten.linspace.Scalar_Tensor: lambda: [1.0, torch.tensor(2.0), 5],
    aten.linspace.Tensor_Scalar: lambda: [torch.tensor(2.0), 1.0, 5],
    aten.linspace.Tensor_Tensor: lambda: [torch.tensor(2.0), torch.tensor(1.0), 5],
    aten.logspace.Scalar_Tensor: lambda: [1.0, torch.tensor(2.0), 5],
    aten.logspace.Tensor_Scalar: lambda: [torch.tensor(2.0), 1.0, 5],
    aten.logspace.Tensor_Tensor: lambda: [torch.tensor(2.0), torch.tensor(1.0), 5],
    aten.max_pool2d_with_indices_backward.default: lambda: _max_pool(2),
    aten.max_pool3d_with_indices_backward.default: lambda: _max_pool(3),
    aten.mvlgamma.default: lambda: [some(3, 4) + 3, 2],
    aten.native_layer_norm_backward.default: lambda: _layer_norm_backward(aten.native_layer_norm_backward.default),
    aten.nll_loss_backward.default: lambda: _nll(0),
    aten.nll_loss2d_backward.default: lambda: _nll(2),
    aten.nll_loss2d_forward.default: lambda: [some(3, 5, 2, 2), places(5, 3, 2, 2), None, 1, -100],
    aten.ormqr.default: lambda: [*torch.geqrf(some(4, 3)), some(4, 2)],
    aten.reflection_pad3d_backward.default: lambda: _pad_backward(3),
    aten.repeat_interleave.Tensor: lambda: [torch.tensor([1, 0, 2])],
    aten.replication_pad1d_backward.default: lambda: _pad_backward(1),
    aten.replication_pad2d_backward.default: lambda: _pad_backward(2),
    aten.replication_pad3d_backward.default: lambda: _pad_backward(3),
    aten.segment_reduce.default: lambda: [some(4), "sum"],
    aten.slow_conv3d_forward.default: lambda: [some(1, 2, 4, 4, 4), some(3, 2, 2, 2, 2), [2] * 3, None, [1] * 3, [0] * 3],
    aten.upsample_bicubic2d_backward.default: lambda: _upsample_backward(2, False),
    aten.upsample_bilinear2d_backward.default: lambda: _upsample_backward(2, False),
    aten.upsample_linear1d_backward.default: lambda: _upsample_backward(1, False),
    aten.upsample_nearest1d_backward.default: lambda: _upsample_backward(1),
    aten.upsample_nearest2d_backward.default: lambda: _upsample_backward(2),
    aten.upsample_nearest3d_backward.default: lambda: _upsample_backward(3),
    aten.upsample_trilinear3d_backward.default: lambda: _upsample_backward(3, False),
    aten.view_as_complex.default: lambda: [some(3, 2)],
    aten.view_as_complex_copy.default: lambda: [some(3, 2)],
    aten._trilinear.default: lambda: [some(2, 3), some(3, 4), some(2, 4), [2], [0], [1], [1]],
    aten._scaled_mm.default: lambda: [some(16, 16).to(torch.float8_e4m3fn), some(16, 16).to(torch.float8_e4m3fn).t(), torch.tensor(1.0), torch.tensor(1.0)],
    aten.reflection_pad1d_backward.default: lambda: [some(1, 2, 6), some(1, 2, 4), [1, 1]],
    aten.reflection_pad2d_backward.default: lambda: _pad_backward(2),
    prims.fft_c2r.default: lambda: [torch.fft.rfft(some(3, 4))],
    prims.iota.default: lambda: [5],
    prims.scalar_tensor.default: lambda: [2.0],
    prims.transpose.default: lambda: [some(3, 4), [1, 0]],
    prims.broadcast_in_dim.default: lambda: [some(4), [3, 4], [1]],
}  # fmt: skip


def _attention() -> list[Any]:
    query = some(1, 2, 3, 4)
    out, normaliser = aten._scaled_dot_product_flash_attention_for_cpu(query, query, query)
    return [torch.ones_like(out), query, query, query, out, normaliser, 0.0, False]


# Those of their arguments that have no place.
KEYWORDS: dict[Any, dict[str, Any]] = {
    aten.div.Scalar_mode: {"rounding_mode": "floor"},
    aten.div.Tensor_mode: {"rounding_mode": "trunc"},
    aten.repeat_interleave.Tensor: {"output_size": 3},
    prims.fft_c2r.default: {"dim": [1], "last_dim_size": 4},
    prims.iota.default: {
        "start": 0,
        "step": 1,
        "dtype": torch.int64,
        "device": torch.device("cpu"),
        "requires_grad": False,
    },
    prims.scalar_tensor.default: {"dtype": torch.float32, "device": torch.device("cpu")},
    aten.segment_reduce.default: {"lengths": torch.tensor([1, 3])},
}
