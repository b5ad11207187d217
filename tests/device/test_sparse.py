"""Sparse gradients on the device, as embeddings make them and optimizers take them, against the CPU."""

from __future__ import annotations

import pytest
import torch

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1),
    "momentum": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
    "sparse-adam": lambda p: torch.optim.SparseAdam(p, 0.1),
    "adagrad": lambda p: torch.optim.Adagrad(p, 0.1),
}
SPARSE = torch.sparse_coo_tensor([[0, 2, 0], [1, 0, 1]], torch.arange(6.0).view(3, 2), (3, 2, 2), check_invariants=True)

pytestmark = pytest.mark.filterwarnings("ignore:Sparse invariant checks")  # PyTorch says it once for optimizers


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_embedding_with_sparse_gradients_trains(name):
    weights = []
    for device in ("cpu", "tpu"):
        torch.manual_seed(0)
        embedding = torch.nn.Embedding(5, 3, sparse=True).to(device)
        optimizer = OPTIMIZERS[name](embedding.parameters())
        for tokens in ([1, 2, 1], [4, 0, 2]):
            optimizer.zero_grad()
            for _ in range(2):  # the second gradient is added to the first
                embedding(torch.tensor(tokens, device=device)).square().sum().backward()
            assert embedding.weight.grad.layout == torch.sparse_coo
            optimizer.step()
        weights.append(embedding.weight.detach().cpu())
    torch.testing.assert_close(weights[1], weights[0])


def test_sparse_tensors_go_there_and_back():
    there = SPARSE.to("tpu")
    assert there.device.type == "tpu" and there.is_sparse
    assert torch.equal(there.to_dense().cpu(), SPARSE.to_dense())
    assert torch.equal(there.cpu().to_dense(), SPARSE.to_dense())


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(lambda s, d: s.coalesce(), id="coalesce"),
        pytest.param(lambda s, d: s + s, id="sparse-sparse"),
        pytest.param(lambda s, d: d + s, id="dense-sparse"),
        pytest.param(lambda s, d: d.add_(s, alpha=-2), id="in-place"),
        pytest.param(lambda s, d: s * 3, id="number"),
        pytest.param(lambda s, d: d.sparse_mask(s.coalesce()), id="mask"),
        pytest.param(lambda s, d: d.transpose(1, 2).contiguous().transpose(1, 2).add_(s), id="not-contiguous"),
    ],
)
def test_what_optimizers_compute_is_the_cpus(function):
    dense = torch.arange(12.0).view(3, 2, 2)
    expected, actual = function(SPARSE, dense.clone()), function(SPARSE.to("tpu"), dense.to("tpu"))
    assert actual.layout == expected.layout and actual.device.type == "tpu"
    torch.testing.assert_close(actual.cpu().to_dense(), expected.to_dense())


@pytest.mark.parametrize("padding", [None, 1])
def test_a_bag_of_embeddings_has_sparse_gradients(padding):
    gradients = []
    for device in ("cpu", "tpu"):
        torch.manual_seed(0)
        bag = torch.nn.EmbeddingBag(6, 3, sparse=True, mode="sum", padding_idx=padding).to(device)
        bag(torch.tensor([1, 1, 4], device=device), torch.tensor([0, 2], device=device)).square().sum().backward()
        assert bag.weight.grad.layout == torch.sparse_coo
        gradients.append(bag.weight.grad.to_dense().cpu())
    torch.testing.assert_close(gradients[1], gradients[0])


def test_a_dense_tensor_becomes_sparse():
    dense = SPARSE.to_dense()
    there = dense.to("tpu").to_sparse()
    assert there.device.type == "tpu" and there._values().device.type == "tpu"
    assert torch.equal(there.to_dense().cpu(), dense)


def test_layouts_that_the_device_has_not_are_refused_in_words():
    with pytest.raises(NotImplementedError, match=r"quantized tensor, .*\n  try: call it on the CPU"):
        torch.quantize_per_tensor(torch.ones(3, device="tpu"), 0.1, 0, torch.qint8)
