"""Models in plain PyTorch, of the kinds that people write themselves."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ConvNet(nn.Module):
    """Convolutions, batch norm and pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True),
            nn.Conv2d(8, 16, 3, stride=2, groups=2), nn.GroupNorm(4, 16), nn.SiLU(), nn.AdaptiveAvgPool2d(2),
        )  # fmt: skip
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return F.log_softmax(self.head(self.features(x).flatten(1)), -1)


class UNet(nn.Module):
    """Down, up by transposed convolution and interpolation, with skips."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.middle = nn.Conv2d(8, 8, 3, padding=2, dilation=2)
        self.up = nn.ConvTranspose2d(16, 4, 4, stride=2, padding=1)
        self.out = nn.Conv2d(7, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        down = F.leaky_relu(self.down(x))
        up = self.up(torch.cat([down, F.gelu(self.middle(down), approximate="tanh")], 1))
        up = F.interpolate(F.avg_pool2d(up, 2), scale_factor=2, mode="bilinear", align_corners=False)
        return torch.sigmoid(self.out(torch.cat([x, up], 1)))


class GatedRecurrence(nn.Module):
    """A recurrent cell unrolled over time."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(6, 12)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        state = x.new_zeros(x.shape[0], 12)
        states = []
        for step in x.unbind(1):
            state = self.cell(step, state)
            states.append(state)
        return torch.stack(states, 1), state


class GraphConvolution(nn.Module):
    """Messages gathered along edges and added up at nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.message, self.update = nn.Linear(8, 8), nn.Linear(16, 8)

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        source, target = edges
        messages = F.relu(self.message(nodes[source]))
        summed = torch.zeros_like(nodes).index_add(0, target, messages)
        degree = torch.zeros(len(nodes)).scatter_add(0, target, torch.ones(target.shape[0])).clamp(min=1)
        return self.update(torch.cat([nodes, summed / degree[:, None]], -1)).tanh()


class Recommender(nn.Module):
    """Bags of embeddings, pairwise products and a tower."""

    def __init__(self) -> None:
        super().__init__()
        self.bags = nn.ModuleList(nn.EmbeddingBag(50, 8, mode=mode) for mode in ("sum", "mean", "max"))
        self.tower = nn.Sequential(nn.Linear(24 + 3, 16), nn.Softplus(), nn.Linear(16, 1))

    def forward(self, items: Tensor, dense: Tensor) -> Tensor:
        vectors = torch.stack([bag(items[i]) for i, bag in enumerate(self.bags)], 1)
        products = torch.einsum("bid,bjd->bij", vectors, vectors)[:, [0, 0, 1], [1, 2, 2]]
        return self.tower(torch.cat([vectors.flatten(1) + dense, products], -1)).squeeze(-1)


class MixtureOfExperts(nn.Module):
    """The two best of four experts for each row, by top-k and a weighted sum."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(8, 4)
        self.experts = nn.Parameter(torch.randn(4, 8, 8))

    def forward(self, x: Tensor) -> Tensor:
        weights, chosen = torch.topk(self.gate(x).softmax(-1), 2)
        outputs = torch.einsum("bd,bkdo->bko", x, self.experts[chosen])
        return (outputs * (weights / weights.sum(-1, keepdim=True))[..., None]).sum(1)


class StateSpace(nn.Module):
    """A diagonal linear recurrence by cumulative sums in the log domain, and a causal convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.decay = nn.Parameter(torch.rand(6))
        self.mix = nn.Conv1d(6, 6, 4, padding=3, groups=6)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.mix(x)[..., : x.shape[-1]])
        log_decay = -F.softplus(self.decay)[:, None] * torch.arange(x.shape[-1])
        return torch.exp(log_decay) * torch.cumsum(x * torch.exp(-log_decay), -1)


class Kalman(nn.Module):
    """Filtering by small linear algebra: products, a solve and a determinant."""

    def __init__(self) -> None:
        super().__init__()
        self.transition = nn.Parameter(torch.eye(3) + 0.1 * torch.randn(3, 3))

    def forward(self, observed: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
        predicted = self.transition @ covariance @ self.transition.mT + 0.1 * torch.eye(3)
        gain = torch.linalg.solve(predicted + torch.eye(3), predicted)
        return (gain @ observed[..., None]).squeeze(-1), torch.linalg.slogdet(predicted)[1]


class Spectral(nn.Module):
    """A filter in the frequency domain, with complex weights."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(9, dtype=torch.complex64))

    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.irfft(torch.fft.rfft(x) * self.weight, n=x.shape[-1])


MODELS: dict[str, tuple[Any, Any]] = {
    "mlp": (
        lambda: nn.Sequential(nn.Linear(6, 12), nn.ELU(), nn.LayerNorm(12), nn.Dropout(0.1), nn.Linear(12, 2)),
        lambda: (torch.randn(5, 6),),
    ),
    "convnet": (ConvNet, lambda: (torch.randn(3, 1, 13, 13),)),
    "unet": (UNet, lambda: (torch.randn(2, 3, 16, 16),)),
    "recurrence": (GatedRecurrence, lambda: (torch.randn(2, 5, 6),)),
    "graph-convolution": (GraphConvolution, lambda: (torch.randn(7, 8), torch.randint(0, 7, (2, 20)))),
    "recommender": (Recommender, lambda: (torch.randint(0, 50, (3, 4, 6)), torch.randn(4, 24))),
    "mixture-of-experts": (MixtureOfExperts, lambda: (torch.randn(5, 8),)),
    "state-space": (StateSpace, lambda: (torch.randn(2, 6, 10),)),
    "kalman": (Kalman, lambda: (torch.randn(4, 3), torch.diag_embed(torch.rand(4, 3) + 1))),
    "spectral": (Spectral, lambda: (torch.randn(3, 16),)),
    "transformer-decoder": (
        lambda: nn.TransformerDecoder(nn.TransformerDecoderLayer(16, 4, 32, batch_first=True), 2),
        lambda: (torch.randn(2, 5, 16), torch.randn(2, 7, 16)),
    ),
    "transformer-encoder": (
        lambda: nn.TransformerEncoder(
            nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, norm_first=True), 2, enable_nested_tensor=False
        ),
        lambda: (torch.randn(2, 5, 16),),
    ),
}
