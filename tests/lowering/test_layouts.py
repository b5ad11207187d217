"""Memory order: which tensors cross without a copy, and in what order of dimensions."""

from __future__ import annotations

import pytest
import torch

from tpu_dynamo_lowering.layouts import dense_order, memory_order


@pytest.mark.parametrize(
    ("tensor", "order"),
    [
        pytest.param(torch.empty(2, 3), (0, 1), id="row-major"),
        pytest.param(torch.empty(2, 3).t(), (1, 0), id="transposed"),
        pytest.param(torch.empty(2, 3, 4).permute(2, 0, 1), (1, 2, 0), id="permuted"),
        pytest.param(torch.empty(2, 3, 4, 5).to(memory_format=torch.channels_last), (0, 2, 3, 1), id="channels-last"),
        pytest.param(torch.empty(1, 3).t(), (0, 1), id="extent-one-keeps-its-place"),
        pytest.param(torch.empty(()), (), id="scalar"),
        pytest.param(torch.empty(2, 4)[:, ::2], None, id="gaps"),
        pytest.param(torch.empty(3, 1).expand(3, 4), None, id="expanded"),
        pytest.param(torch.empty(8).unfold(0, 4, 2), None, id="overlapping"),
    ],
)
def test_dense_order(tensor, order):
    assert dense_order(tensor.shape, tensor.stride()) == order
    assert memory_order(tensor.shape, tensor.stride()) == (order or tuple(range(tensor.ndim)))


@pytest.mark.parametrize("dims", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (2, 0, 1)], ids=str)
def test_a_tensor_permuted_to_its_memory_order_is_contiguous(dims):
    tensor = torch.empty(2, 3, 4).permute(dims)
    assert tensor.permute(memory_order(tensor.shape, tensor.stride())).is_contiguous()
