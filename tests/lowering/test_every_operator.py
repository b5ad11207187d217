"""Every operator of the tables, called by itself in a compiled function, against eager PyTorch.

Arguments are made from the schemas (schema_arguments.py): the smallest, usual ones with nothing but what must be given,
and permuted ones with everything written out. The long suite runs every operator,
`python -m pytest -m slow tests/lowering/test_every_operator.py`; CI a spread of them.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch._ops import OpOverload
from torch.utils import _pytree as pytree

from tests.opinfo.entries import UNSPECIFIED, agree, is_random
from tpu_dynamo_lowering import TABLE

from .schema_arguments import Call, accepted

aten, prims = torch.ops.aten, torch.ops.prims

FORMS = {"smallest": False, "usual": False, "permuted": True}  # whether arguments with a default are given

# No arguments that eager PyTorch takes on a CPU, and why.
UNREACHED: dict[OpOverload, str] = {
    aten._fused_rms_norm_backward.default: "for other devices",
    aten._thnn_fused_lstm_cell.default: "for other devices",
    aten._thnn_fused_lstm_cell_backward_impl.default: "for other devices",
    aten.bmm.dtype: "for other devices",
    aten.convolution_overrideable.default: "for other devices",
    aten.convolution_backward_overrideable.default: "for other devices",
    aten.mm.dtype: "for other devices",
    aten._nnpack_spatial_convolution.default: "ends the process where the library is missing",
    aten.mkldnn_convolution.default: "its fake tensors fail",
    aten._scaled_mm_v2.default: "its recipes are no part of the schema",
    aten._weight_int8pack_mm.default: "its packing is no part of the schema",
    aten._upsample_lanczos2d_aa_backward.default: "eager has no gradient of it",
    aten._amp_update_scale.default: "in tests/device/test_optimizers.py",
    **{
        getattr(packet, overload): "in tests/device/test_optimizers.py: guessed arguments end the process"
        for packet in (aten._fused_adagrad, aten._fused_adam, aten._fused_adamw, aten._fused_sgd)
        for overload in ("default", "tensor_lr")
    },
    prims.xor_sum.default: "has no implementation for eager PyTorch",
}

# Which of several values stays, or which basis is found, is not specified: shapes and dtypes are compared.
ANY_VALUE = {
    aten._index_put_impl.default,
    aten._unsafe_index_put.default,
    aten.index_put.default,
    aten.put.default,
    aten.scatter.src,
    aten._linalg_eigh.default,
    aten._linalg_svd.default,
    aten.linalg_eig.default,
    aten.geqrf.default,
    aten.binomial.default,
}

OPERATORS = sorted((o for o in TABLE if not o._schema.is_mutable and o not in UNREACHED), key=str)

# So many share a compiled function, since most of the time goes into each of those.
TOGETHER = 8


def calls_of(overload: OpOverload) -> list[tuple[OpOverload, Call, Any]]:
    """An operator's calls in every form that eager takes, and eager's results."""
    found = [accepted(overload, form, given) for form, given in FORMS.items()]
    return [(overload, *each) for each in found if each is not None]


def run(calls: list[tuple[OpOverload, Call, Any]], backend: str) -> list[Any]:
    """The results of calls in one compiled function."""
    leaves, structure = pytree.tree_flatten([call for _, call, _ in calls])
    tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    overloads = [overload for overload, _, _ in calls]

    def function(*tensors):
        given = iter(tensors)
        filled = [next(given) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
        every = pytree.tree_unflatten(filled, structure)
        return [overload(*args, **kwargs) for overload, (args, kwargs) in zip(overloads, every, strict=True)]

    torch._dynamo.reset()
    with torch.no_grad():
        return torch.compile(function, backend=backend, fullgraph=True, dynamic=False)(*tensors)


def compare(calls: list[tuple[OpOverload, Call, Any]]) -> None:
    """Compiled results are eager's; values where they are specified."""
    for (overload, call, expected), actual in zip(calls, run(calls, "tpu"), strict=True):
        args, kwargs = pytree.tree_map_only(torch.Tensor, torch.Tensor.clone, call)
        torch.manual_seed(1)
        with torch.no_grad():
            again = overload(*args, **kwargs)
        name = overload._schema.name.partition("::")[2]
        free = overload in ANY_VALUE or name in UNSPECIFIED or is_random(expected, again)
        agree(actual, expected, values=not free)


def dynamo_takes(call: tuple[OpOverload, Call, Any]) -> bool:
    """Return True if Dynamo and AOTAutograd take a call without us."""
    try:
        run([call], "aot_eager")
    except (RuntimeError, torch._dynamo.exc.TorchDynamoException):
        return False
    return True


def check(overloads: list[OpOverload]) -> None:
    """Compare operators together and, where that fails, each by itself, to name the one that is wrong."""
    reached = {overload: calls_of(overload) for overload in overloads}
    without = [str(overload) for overload, calls in reached.items() if not calls]
    assert not without, "no arguments are known that eager takes"
    calls = [call for each in reached.values() for call in each]
    try:
        compare(calls)
    except (Exception, AssertionError):  # noqa: BLE001, each is looked at again
        for call in calls:
            if dynamo_takes(call):
                compare([call])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("start", range(3, len(OPERATORS), len(OPERATORS) // TOGETHER), ids=lambda i: str(OPERATORS[i]))
def test_a_spread_of_operators(start):
    check(OPERATORS[start : start + 3])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("start", range(0, len(OPERATORS), TOGETHER), ids=lambda i: str(OPERATORS[i]))
def test_every_operator(start):
    check(OPERATORS[start : start + TOGETHER])
