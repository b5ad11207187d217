"""Tensors around foreign memory resize as torch's own do, and give that memory back."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch

from tpu_dynamo_runtime.resizable import cpu_allocator, let_resize


class Memory(np.ndarray):
    """An array of which one can know whether it lives."""


def foreign() -> tuple[torch.Tensor, weakref.ref[Memory]]:
    array = np.arange(3.0).view(Memory)
    return let_resize(torch.from_numpy(array)), weakref.ref(array)


def test_storages_are_laid_out_as_we_say():
    assert cpu_allocator() is not None


@pytest.mark.parametrize(
    "resize",
    [
        pytest.param(lambda tensor: tensor.resize_(10), id="resize_"),
        pytest.param(lambda tensor: torch.mul(torch.ones(5, dtype=torch.float64), 2, out=tensor), id="out"),
        pytest.param(lambda tensor: tensor.untyped_storage().resize_(800), id="storage"),
        pytest.param(lambda tensor: tensor.untyped_storage().resize_(0), id="storage, to nothing"),
    ],
)
@pytest.mark.filterwarnings("ignore:An output with one or more elements was resized")
def test_resizing_gives_the_memory_back(resize):
    tensor, memory = foreign()
    assert tensor.tolist() == [0, 1, 2]
    own = torch.tensor([0.0, 1, 2], dtype=torch.float64)
    resize(own)
    resize(tensor)
    assert memory() is None
    assert (tensor.shape, tensor.untyped_storage().nbytes()) == (own.shape, own.untyped_storage().nbytes())
    if tensor.untyped_storage().nbytes():
        assert torch.equal(tensor[:3], own[:3])


def test_what_is_never_resized_gives_it_back_too():
    tensor, memory = foreign()
    view = tensor[1:]
    del tensor
    assert view.tolist() == [1, 2]
    del view
    assert memory() is None
