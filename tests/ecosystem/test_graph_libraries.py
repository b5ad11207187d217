"""torch-geometric and botorch on the device: layers, scatters and batches; a process fitted and its best point."""

# pyright: reportAttributeAccessIssue=false, reportCallIssue=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # the libraries' own warnings

EDGES = torch.tensor([[0, 1, 2, 3, 4, 5, 0, 2], [1, 2, 3, 4, 5, 0, 3, 5]])
NODES = torch.linspace(-1, 1, 24).sin().view(6, 4)


@pytest.fixture(scope="module")
def geometric() -> Any:
    return pytest.importorskip("torch_geometric", reason="torch-geometric is not installed")


@pytest.fixture(scope="module")
def botorch() -> Any:
    """Import botorch before a test begins: what it imports sets variables of the environment."""
    pytest.importorskip("botorch.fit", reason="botorch is not installed")
    pytest.importorskip("botorch.optim", reason="botorch is not installed")
    return pytest.importorskip("botorch", reason="botorch is not installed")


def check(function: Callable[[str], Any], tolerance: float = 1e-5) -> None:
    """A function of a device gives on the device what it gives on the CPU."""
    theirs, ours = function("cpu"), function("tpu")
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.device.type == "tpu"
        torch.testing.assert_close(mine.detach().cpu(), other.detach(), rtol=tolerance, atol=tolerance)


@pytest.mark.shows(
    "torch-geometric", "GCN, GAT, SAGE and GIN layers and their gradients, eager", 'model(data.x.to("tpu"), edges)'
)
@pytest.mark.parametrize("name", ["GCN", "GAT", "SAGE", "GIN"])
def test_layers_train_as_on_the_cpu(geometric, name):
    layer = getattr(geometric.nn, f"{name}Conv")

    def trained(device: str) -> list[Tensor]:
        torch.manual_seed(0)
        parts = (nn.Linear(4, 3),) if name == "GIN" else (4, 3)
        model = layer(*parts).to(device)
        nodes, edges = NODES.to(device), EDGES.to(device)
        loss = nn.functional.cross_entropy(model(nodes, edges), (torch.arange(6) % 3).to(device))
        return [loss, *torch.autograd.grad(loss, list(model.parameters()))]

    check(trained)


@pytest.mark.shows(
    "torch-geometric", "a compiled layer", 'torch.compile(SAGEConv(4, 3).to("tpu"), backend="tpu")(x, edges)'
)
def test_a_compiled_layer_is_the_cpus(geometric):
    def called(device: str) -> list[Tensor]:
        torch.manual_seed(0)
        model = geometric.nn.SAGEConv(4, 3).to(device)
        model = torch.compile(model, backend="tpu") if device == "tpu" else model
        return [model(NODES.to(device), EDGES.to(device))]

    check(called)


@pytest.mark.shows(
    "torch-geometric", "scatter, segment, softmax over groups, batches of graphs, pooling", 'Batch.from_data_list(graphs).to("tpu")'
)  # fmt: skip
def test_scatters_and_batches_are_the_cpus(geometric):
    from torch_geometric.data import Batch, Data
    from torch_geometric.utils import scatter, segment, softmax, to_dense_adj, to_dense_batch

    def computed(device: str) -> list[Tensor]:
        groups, ends = torch.tensor([0, 0, 1, 1, 2, 0], device=device), torch.tensor([0, 2, 4, 6], device=device)
        nodes = NODES.to(device)
        found = [scatter(nodes, groups, 0, 3, reduce=how) for how in ("sum", "mean", "max", "min", "mul")]
        found += [segment(nodes, ends, reduce=how) for how in ("sum", "mean", "max", "min")]
        graphs = Batch.from_data_list([Data(x=NODES, edge_index=EDGES), Data(x=NODES[:3], edge_index=EDGES[:, :2])])
        graphs = graphs.to(device)
        pooled = geometric.nn.global_mean_pool(graphs.x, graphs.batch)
        dense = to_dense_batch(graphs.x, graphs.batch)
        return [*found, softmax(nodes, groups), pooled, *dense, to_dense_adj(graphs.edge_index, graphs.batch)]

    check(computed)


@pytest.mark.shows(
    "botorch", "a Gaussian process fitted, and an acquisition function optimised", 'SingleTaskGP(x.to("tpu"), y.to("tpu"))'
)  # fmt: skip
def test_an_acquisition_is_optimised_as_on_the_cpu(botorch):
    import gpytorch

    def found(device: str) -> list[Tensor]:
        torch.manual_seed(0)
        x = torch.linspace(0, 1, 5, dtype=torch.double).view(-1, 1).to(device)
        y = torch.sin(6 * x)
        process = botorch.models.SingleTaskGP(x, y).to(device)
        marginal = gpytorch.mlls.ExactMarginalLogLikelihood(process.likelihood, process)
        botorch.fit.fit_gpytorch_mll(marginal, optimizer_kwargs={"options": {"maxiter": 2}})
        acquisition = botorch.acquisition.LogExpectedImprovement(process, best_f=y.max())
        bounds = torch.tensor([[0.0], [1.0]], dtype=torch.double, device=device)
        starts = torch.tensor([[[0.2]], [[0.7]]], dtype=torch.double, device=device)
        point, value = botorch.optim.optimize_acqf(
            acquisition, bounds, q=1, num_restarts=2, batch_initial_conditions=starts, options={"maxiter": 3}
        )
        return [point, value]

    check(found, tolerance=1e-4)
