"""Train a small character-level GPT on Python's own documentation, one executable a step.

    python examples/train_gpt.py [--steps 200] [--dropout 0.0] [--compare] [--checkpoint gpt.pt] [--figure gpt.png]

`--compare` trains in eager on the CPU beside it. With `--checkpoint` a run goes on where the last one stopped. The
text is that of `help()`, which every Python distribution carries as `pydoc_data.topics`.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from pydoc_data.topics import topics

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import tpu_dynamo

LENGTH, BATCH = 64, 16


class Block(nn.Module):
    """Causal attention and a feed-forward network, each after a layer norm and around a residual."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Dropout(dropout)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[batch, length, width] to the same."""
        batch, length, width = x.shape
        q, k, v = self.attend(self.first(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
        x = x + self.project(mixed.transpose(1, 2).reshape(batch, length, width))
        return x + self.feed(self.second(x))


class GPT(nn.Module):
    """A decoder with learnt positions and tied embeddings."""

    def __init__(self, characters: int, width: int = 96, heads: int = 4, layers: int = 3, dropout: float = 0.0) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(characters, width), nn.Embedding(LENGTH, width)
        self.blocks = nn.Sequential(*(Block(width, heads, dropout) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, characters, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """[batch, length] characters to [batch, length, characters] logits."""
        places = torch.arange(tokens.shape[1], device=tokens.device)
        return self.head(self.norm(self.blocks(self.embed(tokens) + self.place(places))))


class Text:
    """The text as numbers, and batches of it."""

    def __init__(self) -> None:
        text = "".join(topics[name] for name in sorted(topics))
        self.characters = sorted(set(text))
        numbers = {character: i for i, character in enumerate(self.characters)}
        self.tokens = torch.tensor([numbers[character] for character in text])

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """The step's batch: [16, 64] characters and those that follow them; the same in every run."""
        generator = torch.Generator().manual_seed(step)
        starts = torch.randint(len(self.tokens) - LENGTH - 1, (BATCH,), generator=generator)
        rows = self.tokens[starts[:, None] + torch.arange(LENGTH + 1)]
        return rows[:, :-1], rows[:, 1:]


def loss_of(logits: Tensor, following: Tensor) -> Tensor:
    """Cross entropy of the next character."""
    return F.cross_entropy(logits.flatten(0, 1), following.flatten())


class Run:
    """A model with its optimizer and schedule, on the device or on the CPU, in whole steps or in eager."""

    def __init__(self, text: Text, device: str, dropout: float, seed: int) -> None:
        torch.manual_seed(seed)
        self.text, self.device, self.done = text, device, 0
        self.model = GPT(len(text.characters), dropout=dropout).to(device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=3e-3, weight_decay=0.1, eps=1e-5)
        self.schedule = torch.optim.lr_scheduler.LinearLR(self.optimizer, 0.1, 1.0, total_iters=50)
        self.step = tpu_dynamo.train_step(self.model, self.optimizer, loss_of) if device == "tpu" else self.eager_step

    def eager_step(self, tokens: Tensor, following: Tensor) -> Tensor:
        """The ordinary loop's step."""
        loss = loss_of(self.model(tokens), following)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def train(self, steps: int) -> list[float]:
        """So many steps more; their losses, which are read at the end."""
        losses = []
        for number in range(self.done, self.done + steps):
            tokens, following = self.text.batch(number)
            losses.append(self.step(tokens.to(self.device), following.to(self.device)))
            self.schedule.step()
        self.done += steps
        return torch.stack(losses).tolist()

    def save(self, path: Path) -> None:
        """Write everything that going on needs."""
        state = {"model": self.model, "optimizer": self.optimizer, "schedule": self.schedule}
        torch.save({name: part.state_dict() for name, part in state.items()} | {"done": self.done}, path)

    def resume(self, path: Path) -> None:
        """Go on from a file of `save`."""
        saved = torch.load(path, map_location=self.device)
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.schedule.load_state_dict(saved["schedule"])
        self.done = saved["done"]

    @torch.no_grad()
    def sample(self, beginning: str, length: int = 160) -> str:
        """Text that the model writes after `beginning`, its likeliest character each time."""
        model = self.model.to("cpu").eval()
        tokens = [self.text.characters.index(character) for character in beginning]
        for _ in range(length):
            tokens.append(int(model(torch.tensor([tokens[-LENGTH:]]))[0, -1].argmax()))
        return "".join(self.text.characters[token] for token in tokens)


def main() -> None:
    """Train, and compare if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compare", action="store_true", help="train in eager on the CPU too")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--figure", default="gpt.png")
    given = parser.parse_args()
    text = Text()
    curves = {}
    for name, device in (("whole steps", "tpu"), ("eager", "cpu"))[: 1 + given.compare]:
        run = Run(text, device, given.dropout, given.seed)
        if given.checkpoint and given.checkpoint.exists():
            run.resume(given.checkpoint)
            print(f"{name}: going on after {run.done} steps")
        started = time.perf_counter()
        losses = curves[name] = run.train(given.steps)
        seconds = time.perf_counter() - started
        print(f"{name:12} {given.steps} steps in {seconds:.1f} s, loss {losses[0]:.4f} -> {losses[-1]:.4f}")
        if device == "tpu":
            trained = run
    if given.compare:
        apart = max(abs(a - b) for a, b in zip(*curves.values(), strict=True))
        print(f"largest difference of losses: {apart:.1e}")
    if given.checkpoint:
        trained.save(given.checkpoint)
    for name, losses in curves.items():
        plt.plot(losses, label=name, linestyle="-" if name == "eager" else "--")
    plt.xlabel("step")
    plt.ylabel("loss")
    plt.legend()
    plt.savefig(given.figure, dpi=120)
    print(f"loss curves: {given.figure}\n{trained.sample('The import statement ')}")


if __name__ == "__main__":
    main()
