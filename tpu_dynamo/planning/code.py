"""The PyTorch code that sets a layout up."""

from __future__ import annotations

from collections.abc import Sequence

from .layouts import Layout
from .pairs import TensorPlan

_STYLES = {
    "colwise": "ColwiseParallel()",
    "rowwise": "RowwiseParallel()",
    "embedding": "RowwiseParallel(input_layouts=Replicate())",
    "head": "ColwiseParallel(output_layouts=Replicate())",
}


def code_of(layout: Layout, plan: TensorPlan, blocks: Sequence[str], *, training: bool = True) -> str:
    """Return the lines of Python that lay `model` out so, for each rank under torchrun."""
    mesh, names = layout.mesh, tuple(layout.mesh)
    sizes = ", ".join(map(str, mesh.values())) + ("," if len(mesh) == 1 else "")
    quoted = ", ".join(f'"{name}"' for name in names) + ("," if len(names) == 1 else "")
    lines = [
        "import torch.distributed as dist",
        "from torch.distributed.device_mesh import init_device_mesh",
        "",
        "dist.init_process_group()",
        f'mesh = init_device_mesh("tpu", ({sizes}), mesh_dim_names=({quoted}))',
    ]
    if layout.tensor > 1:
        used = list(dict.fromkeys(plan.styles.values()))
        kinds = sorted({_STYLES[style].partition("(")[0] for style in used})
        lines += [f"from torch.distributed.tensor.parallel import {', '.join([*kinds, 'parallelize_module'])}"]
        if {"embedding", "head"} & set(used):
            lines += ["from torch.distributed.tensor import Replicate"]
        lines += ["", 'parallelize_module(model, mesh["tensor"], {']
        lines += [f'    "{name}": {_STYLES[style]},' for name, style in plan.patterns.items()]
        lines += ["})"]
    owner, _, _ = blocks[0].rpartition(".") if blocks else ("", "", "")
    members = f"model.{owner}" if owner else "model"
    if layout.recompute:
        lines += [
            "", "from functools import partial", "from torch.utils.checkpoint import checkpoint", "",
            f"for block in {members}:", "    block.forward = partial(checkpoint, block.forward, use_reentrant=False)",
        ]  # fmt: skip
    if layout.data > 1:
        data = ", ".join(f'"{name}"' for name in names if name != "tensor")
        lines += ["", "from torch.distributed.fsdp import fully_shard", "", f"data = mesh[{data}]"]
        if blocks:
            lines += [f"for block in {members}:", "    fully_shard(block, mesh=data)"]
        lines += ["fully_shard(model, mesh=data)"]
    if layout.micro > 1:
        lines += [
            "", "from tpu_dynamo.planning.laying_out import MicroBatches", "",
            f"model = MicroBatches(model, {layout.micro})",
        ]  # fmt: skip
    if training:
        lines += [
            "", 'model = model.to_empty(device="tpu")  # then initialise, or load a checkpoint',
            "step = tpu_dynamo.train_step(model, optimizer)",
        ]  # fmt: skip
    return "\n".join(lines) + "\n"
