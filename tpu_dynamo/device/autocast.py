"""Autocast for the device: which operators compute in half precision, which in float32.

Source: the lists of PyTorch's autocast documentation, "CUDA Ops that can autocast to float16" and "to float32".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ._torch_compat import NAME, library, pytree, without_autocast

HALF = (
    "addbmm", "addmm", "addmv", "addr", "baddbmm", "bmm", "chain_matmul", "conv1d", "conv2d", "conv3d",
    "conv_transpose1d", "conv_transpose2d.input", "conv_transpose3d.input", "convolution", "linalg_multi_dot",
    "linalg_vecdot", "linear", "matmul", "mm", "mv", "prelu", "scaled_dot_product_attention",
)  # fmt: skip
SINGLE = (
    "acos", "asin", "binary_cross_entropy_with_logits", "cdist", "cosh", "cosine_embedding_loss", "cosine_similarity",
    "cross_entropy_loss", "cumprod", "cumsum", "dist", "erfinv", "exp", "expm1", "gelu", "group_norm",
    "hinge_embedding_loss", "huber_loss", "kl_div", "l1_loss", "layer_norm", "log", "log10", "log1p", "log2",
    "log_softmax.int", "margin_ranking_loss", "mse_loss", "multi_margin_loss", "multilabel_margin_loss",
    "native_layer_norm", "nll_loss", "nll_loss_nd", "norm.Scalar", "norm.ScalarOpt_dim", "pdist",
    "poisson_nll_loss", "pow.Scalar", "pow.Tensor_Scalar", "pow.Tensor_Tensor", "prod", "prod.dim_int",
    "reciprocal", "renorm", "rsqrt", "sinh", "smooth_l1_loss", "soft_margin_loss", "softmax.int", "softplus", "sum",
    "sum.dim_IntList", "tan", "triplet_margin_loss",
)  # fmt: skip


def _casting(name: str, dtype: torch.dtype | None) -> Callable[..., Any]:
    """Return an ATen operator that first casts its floating tensors to `dtype`; for None, to autocast's dtype."""
    base, _, overload = name.partition(".")
    operator = getattr(getattr(torch.ops.aten, base), overload or "default")

    def cast(*args: Any, **kwargs: Any) -> Any:
        wanted = dtype or torch.get_autocast_dtype(NAME)

        def one(tensor: torch.Tensor) -> torch.Tensor:
            eligible = tensor.is_floating_point() and tensor.dtype != torch.float64 and tensor.device.type == NAME
            return tensor.to(wanted) if eligible else tensor

        with without_autocast():
            args, kwargs = pytree.tree_map_only(torch.Tensor, one, (args, kwargs))
            return operator(*args, **kwargs)

    return cast


def register_autocast() -> list[torch.library.Library]:
    """Register the lists; every other operator takes the dtypes that come."""
    everything = library("_", "AutocastPrivateUse1")
    everything.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    ours = library("aten", "AutocastPrivateUse1")
    for names, dtype in ((HALF, None), (SINGLE, torch.float32)):
        for name in names:
            ours.impl(name, _casting(name, dtype))
    return [everything, ours]
