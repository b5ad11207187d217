"""A ranking model with six graph breaks and three recompiles, and the same after following the report.

python examples/graph_breaks.py            # the model as it was written
python examples/graph_breaks.py --fixed    # after the report's advice
python examples/graph_breaks.py --html report.html
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import tpu_dynamo

log = logging.getLogger("ranker")

VOCABULARY, WIDTH, LENGTH = 64, 32, 12


class Ranker(nn.Module):
    """Scores documents, given as tokens, as somebody wrote it for eager PyTorch."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.mix = nn.TransformerEncoderLayer(WIDTH, 2, 2 * WIDTH, dropout=0.0, batch_first=True)
        self.score = nn.Linear(WIDTH, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        """[batch, length] tokens to [batch] scores; 0 is padding."""
        started = time.perf_counter()
        hidden = self.mix(self.embed(tokens))
        log.debug("hidden states %s", hidden.shape)
        scale = hidden.abs().max().item()
        hidden = hidden / scale
        if hidden.mean() < 0:
            hidden = -hidden
        kept = hidden[tokens != 0]
        calibration = torch.from_numpy(np.interp(hidden.mean((1, 2)).numpy(), [-1.0, 1.0], [0.5, 2.0]))
        return self.score(hidden).mean((1, 2)) * calibration.float() + kept.mean() + 0 * started


class FixedRanker(Ranker):
    """A Ranker whose scores are one graph."""

    def forward(self, tokens: Tensor) -> Tensor:
        """[batch, length] tokens to [batch] scores; 0 is padding."""
        hidden = self.mix(self.embed(tokens))
        if not torch.compiler.is_compiling():
            log.debug("hidden states %s", hidden.shape)
        hidden = hidden / hidden.abs().max()
        hidden = torch.where(hidden.mean() < 0, -hidden, hidden)
        keep = (tokens != 0)[..., None]
        kept_mean = torch.where(keep, hidden, 0.0).sum() / (keep.sum() * WIDTH)
        calibration = 0.5 + 1.5 * (hidden.mean((1, 2)).clamp(-1.0, 1.0) + 1.0) / 2.0
        return self.score(hidden).mean((1, 2)) * calibration + kept_mean


def loss(scores: Tensor, wanted: Tensor, temperature: float | Tensor) -> Tensor:
    """Return the distance of scores from what was wanted."""
    return F.mse_loss(scores * temperature, wanted)


def run(backend: str = "tpu") -> None:
    """Rank documents once, then compute losses with what changes between the steps of a training run."""
    torch.manual_seed(0)
    ranker = torch.compile(Ranker().eval(), backend=backend)
    with torch.no_grad():
        ranker(torch.randint(1, VOCABULARY, (4, LENGTH)))
    compiled = torch.compile(loss, backend=backend)
    compiled(torch.ones(4), torch.zeros(4), 1.0)
    compiled(torch.ones(4), torch.zeros(4), 0.5)  # the number is another
    compiled(torch.ones(6), torch.zeros(6), 0.25)  # the batch is another
    with torch.no_grad():  # the grad mode is another
        compiled(torch.ones(6), torch.zeros(6), 0.125)


def run_fixed(backend: str = "tpu") -> None:
    """Do the work of `run`, changed as the report advises."""
    torch.manual_seed(0)
    ranker = torch.compile(FixedRanker().eval(), backend=backend)
    with torch.no_grad():
        ranker(torch.randint(1, VOCABULARY, (4, LENGTH)))
    compiled = torch.compile(loss, backend=backend)

    def validation_loss(scores: Tensor, wanted: Tensor, temperature: Tensor) -> Tensor:
        with torch.no_grad():
            return loss(scores, wanted, temperature)

    validate = torch.compile(validation_loss, backend=backend)
    steps = ((4, 1.0, compiled), (4, 0.5, compiled), (6, 0.25, compiled), (6, 0.125, validate))
    for size, temperature, function in steps:
        scores, wanted = torch.ones(size), torch.zeros(size)
        torch._dynamo.mark_dynamic(scores, 0, min=4, max=6)
        torch._dynamo.mark_dynamic(wanted, 0, min=4, max=6)
        function(scores, wanted, torch.tensor(temperature))


def main() -> None:
    """Run one of the two under the report, and show it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fixed", action="store_true", help="run the version that follows the advice")
    parser.add_argument("--html", metavar="FILE", help="write the report as a page as well")
    arguments = parser.parse_args()
    work: Callable[[], None] = run_fixed if arguments.fixed else run
    with tpu_dynamo.diagnose() as report:
        work()
    print(report)
    if arguments.html:
        print(f"wrote {report.save(arguments.html)}")


if __name__ == "__main__":
    main()
