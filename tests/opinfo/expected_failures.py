"""OpInfo entries that must fail, each with its reason. A test that passes unexpectedly is a failure too."""

from __future__ import annotations

import torch
from torch.torch_version import TorchVersion

_DATA_DEPENDENT = "the result's size depends on values: refused with the user's line, as documented"
_DYNAMO_DATA = "Dynamo refuses it: the result is a Python value that depends on the data"
_DYNAMO_SIZE = "Dynamo refuses it: ATen gives the result a size that depends on the data"
_DYNAMO = "Dynamo does not trace it"
_SPARSE = "Dynamo does not wrap sparse tensors"
_JITERATOR = "jiterator runs on CUDA only; eager itself fails"
_TIES = "positions among equal values are unspecified in PyTorch; ours are the first ones"
_COMPLEX32 = "XLA has no complex32"

_JITERATORS = ("unary", "binary", "4inputs_with_extra_args", "binary_return_by_ref", "2inputs_2outputs")

FORWARD: dict[str, dict[str, str]] = {
    "any": {
        **dict.fromkeys(
            ["argwhere", "bincount", "item", "masked_select", "nonzero", "tensor_split", "unique",
             "unique_consecutive"],
            _DATA_DEPENDENT,
        ),
        **({} if TorchVersion(torch.__version__) >= "2.14" else {"combinations": _DATA_DEPENDENT}),  # no mask any more
        **dict.fromkeys(["allclose", "equal", "corrcoef", "cov", "nn.functional.one_hot"], _DYNAMO_DATA),
        **dict.fromkeys(
            ["linalg.lstsq", "linalg.lstsq-grad_oriented", "nn.functional.ctc_loss", "nn.functional.gaussian_nll_loss"],
            _DYNAMO_SIZE,
        ),
        **dict.fromkeys(["resize_", "resize_as_"], _DYNAMO),
        **dict.fromkeys(["sparse.sampled_addmm", "sparse.mm-reduce", "to_sparse"], _SPARSE),
        **dict.fromkeys([f"jiterator_{name}" for name in _JITERATORS], _JITERATOR),
        "chalf": _COMPLEX32,
    },
    "int64": {"kthvalue": _TIES, "topk": _TIES},
}  # fmt: skip

GRADIENTS: dict[str, dict[str, str]] = {"any": dict(FORWARD["any"])}
