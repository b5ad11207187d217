"""A stretch of a graph as a Python script that runs alone, and what it reads in a file beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.fx import GraphModule, Node

from tpu_dynamo_lowering import Part

from .._torch_compat import OpOverload

_SCRIPT = '''\
"""{title}"""

from pathlib import Path

import torch
from safetensors.torch import load_file

import tpu_dynamo
{imports}
aten, prims = torch.ops.aten, torch.ops.prims
inf, nan, device = float("inf"), float("nan"), torch.device
stored = load_file(Path(__file__).with_suffix(".safetensors"))


def tensor(name, shape, stride, dtype):
    """Return a tensor of the file in its memory order."""
    found = stored[name]
    found = torch.view_as_complex(found) if dtype.is_complex else found
    return torch.empty_strided(shape, stride, dtype=dtype).copy_(found.reshape(shape))


{constants}
def graph({parameters}):
{body}


inputs = [
{inputs}
]

if __name__ == "__main__":
    found = tpu_dynamo.check(graph, *inputs)
    print(found)
    raise SystemExit(not found)
'''


def write_script(path: Path, part: Part, inputs: Sequence[Any], title: str) -> Path:
    """Write a script that checks a part of a graph, and a `.safetensors` file beside it; return the script's path.

    inputs: the values of what the part reads. Raises OSError.
    """
    from safetensors.torch import save_file

    tensors: dict[str, torch.Tensor] = {}
    module = part.module
    constants = []
    for node in module.graph.find_nodes(op="get_attr"):
        value = getattr(module, str(node.target))
        if isinstance(value, GraphModule):
            constants.append(_function(value, node.name))
        else:
            constants.append(f"{node.name} = {_stored(node.name, value, tensors)}\n")
    lines = [f"    {_stored(node.name, value, tensors)}," for node, value in zip(part.inputs, inputs, strict=True)]
    text = _SCRIPT.format(
        title=title.replace("\\", "/").replace('"""', "'''"),
        imports=_imports(module),
        constants="\n".join(constants) + ("\n\n" if constants else ""),
        parameters=", ".join(node.name for node in part.inputs),
        body=_body(module),
        inputs="\n".join(lines),
    )
    path.write_text(text, encoding="utf-8")
    save_file(tensors, path.with_suffix(".safetensors"))
    return path


def _stored(name: str, value: Any, tensors: dict[str, torch.Tensor]) -> str:
    """Put a tensor among those to be stored; return the expression that reads it. Numbers are written out."""
    if not isinstance(value, torch.Tensor):
        return repr(value)
    value = value.detach().cpu().resolve_conj().resolve_neg()
    plain = torch.view_as_real(value) if value.is_complex() else value
    tensors[name] = plain.contiguous().clone()
    overlapping = any(size > 1 and step == 0 for size, step in zip(value.shape, value.stride(), strict=True))
    stride = value.contiguous().stride() if overlapping else value.stride()
    return f"tensor({name!r}, {tuple(value.shape)}, {stride}, {value.dtype})"


def _function(module: GraphModule, name: str) -> str:
    parameters = ", ".join(node.name for node in module.graph.find_nodes(op="placeholder"))
    return f"def {name}({parameters}):\n{_body(module)}\n\n"


def _body(module: GraphModule) -> str:
    lines = []
    for node in module.graph.nodes:
        if node.op == "call_function":
            lines.append(f"    {node.name} = {_call(node)}")
        elif node.op == "output":
            lines.append(f"    return {_argument(node.args[0])}")
    return "\n".join(lines)


def _call(node: Node) -> str:
    target: Any = node.target
    if getattr(target, "__name__", "") == "getitem":
        return f"{_argument(node.args[0])}[{_argument(node.args[1])}]"
    words = [*map(_argument, node.args), *(f"{key}={_argument(value)}" for key, value in node.kwargs.items())]
    if isinstance(target, OpOverload):
        packet, _, overload = str(target).rpartition(".")
        known = packet if packet.startswith(("aten.", "prims.")) else f"torch.ops.{packet}"
        name = f"getattr({known}, {overload!r})" if overload in ("from", "in", "is") else f"{known}.{overload}"
        return f"{name}({', '.join(words)})"
    return f"torch.ops.higher_order.{target}({', '.join(words)})"


def _argument(value: Any) -> str:
    if isinstance(value, Node):
        return value.name
    if isinstance(value, tuple):
        return f"({', '.join(map(_argument, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, list):
        return f"[{', '.join(map(_argument, value))}]"
    if isinstance(value, torch.device):
        return 'device("cpu")'
    return repr(value)


def _imports(module: GraphModule) -> str:
    """Return a comment that names the libraries whose operators the part calls."""
    targets = [node.target for node in module.graph.nodes if isinstance(node.target, OpOverload)]
    libraries = sorted({target.namespace for target in targets} - {"aten", "prims"})
    return "".join(f"# Import here what defines the operators of {json.dumps(each)}.\n" for each in libraries)
