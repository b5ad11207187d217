"""Tensor parallelism found from a model's modules: which linear layers are split by columns, which by rows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import nn

# The names that authors give to numbers of heads.
_HEADS = ("num_heads", "n_heads", "num_attention_heads", "nhead", "n_head")
_KEY_HEADS = ("num_key_value_heads", "n_kv_heads", "num_kv_heads", "n_kv_head")


@dataclass(frozen=True)
class TensorPlan:
    """The split of a model over a dimension of a mesh.

    styles: `colwise`, `rowwise`, `embedding` or `head` by the names of modules. divides: the sizes all
    of which the number of chips must divide. missing: why there is no plan, empty if there is one.
    """

    styles: Mapping[str, str] = field(default_factory=dict)
    divides: tuple[int, ...] = ()
    missing: str = ""

    def fits(self, chips: int) -> bool:
        """Return True if the model can be split over so many chips."""
        return not self.missing and all(size % chips == 0 for size in self.divides)

    @property
    def patterns(self) -> dict[str, str]:
        """The styles as `parallelize_module` takes them, with `*` for the numbers of blocks."""
        return {re.sub(r"(?<![^.])\d+(?![^.])", "*", name): style for name, style in self.styles.items()}


def tensor_plan(model: nn.Module, blocks: tuple[str, ...]) -> TensorPlan:
    """Find pairs of linear layers in a model's blocks, its embedding of words and its head.

    The rule: within one module of a block, the linear layers that take the block's width are split by columns and those
    that give it by rows, where their inner sizes are a whole number of each other and no layer between them mixes
    features. In an attention, which is a module with a number of heads or with several layers of one input, heads must
    divide. A module of which that is not true stays whole; where no pair is found there is no plan.
    """
    named = dict(model.named_modules())
    styles: dict[str, str] = {}
    divides: set[int] = set()
    for block in blocks:
        for name, module in named.items():
            if name.startswith(block + ".") or name == block:
                _pair(name, module, styles, divides)
    if not styles:
        return TensorPlan(
            missing="no module of its blocks has a pair of linear layers, one out of its width and one back"
        )
    for name, module in named.items():
        if any(name.startswith(block) for block in blocks):
            continue
        if isinstance(module, nn.Embedding):
            styles[name] = "embedding"
            divides.add(module.num_embeddings)
        elif isinstance(module, nn.Linear) and module.out_features > 2 * module.in_features:
            styles[name] = "head"
            divides.add(module.out_features)
    return TensorPlan(styles, tuple(sorted(divides)))


def _pair(name: str, module: nn.Module, styles: dict[str, str], divides: set[int]) -> None:
    own = {key: child for key, child in module.named_children() if isinstance(child, nn.Linear)}
    own = {key: child for key, child in own.items() if f"{name}.{key}" not in styles}
    if len(own) < 2:
        return
    last = list(own)[-1]
    width = own[last].out_features
    columns = {key: child for key, child in own.items() if key != last and child.in_features == width}
    if len(columns) != len(own) - 1:
        return
    inner = own[last].in_features
    if max(child.out_features for child in columns.values()) != inner and len(columns) > 1:
        return
    if any(inner % child.out_features for child in columns.values()):
        return  # as one layer for queries, keys and values together, whose columns would be dealt out wrongly
    heads = _heads(module)
    if len(columns) > 2 and not heads:
        return  # several layers of one input are an attention's, and its heads are not known
    for key in columns:
        styles[f"{name}.{key}"] = "colwise"
    styles[f"{name}.{last}"] = "rowwise"
    divides.update({inner, *(child.out_features for child in columns.values()), *heads})


def _heads(module: nn.Module) -> set[int]:
    """Return the numbers of heads that an attention has: its own attributes, or those of its configuration."""
    found: set[int] = set()
    for owner in (module, getattr(module, "config", None)):
        for names in (_HEADS, _KEY_HEADS):
            found |= {n for name in names if isinstance(n := getattr(owner, name, None), int)}
    # A number of features of each head tells the same, of each layer.
    size = getattr(module, "head_dim", None)
    if isinstance(size, int):
        for child in module.children():
            if isinstance(child, nn.Linear) and child.out_features % size == 0:
                found.add(child.out_features // size)
    return found
