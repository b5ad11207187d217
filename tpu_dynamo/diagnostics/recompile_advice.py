"""Advice on changes that prevent recompiles."""

from __future__ import annotations

import re

from .guards import full_source
from .model import Advice, FailedGuard

_CODES = {
    "size": "TPU201", "stride": "TPU201", "rank": "TPU201", "shape_expression": "TPU201",
    "dtype": "TPU204", "device": "TPU204", "requires_grad": "TPU204", "dispatch_keys": "TPU204", "aliasing": "TPU204",
    "global_state": "TPU205",
}  # fmt: skip


# What Dynamo calls a value that Python's stack held at a break.
_ON_STACK = re.compile(r"^___stack\d+")


def code_of(guard: FailedGuard) -> str:
    """Return our code for a recompile that this guard caused, as `TPU201`."""
    if guard.kind == "value" and _is_number(guard.expected) and (guard.actual is None or _is_number(guard.actual)):
        return "TPU202"
    return _CODES.get(guard.kind, "TPU203")


def advice_on(guard: FailedGuard, values: tuple[str, ...], behind: int | None = None) -> Advice:
    """Return the change that prevents the recompile, with the value's name, its dimension and the values seen.

    behind: the line of the graph break that made the value an input, for one that the function computes.
    """
    source, seen = guard.source or "the value", ", ".join(values) or "not recorded"
    if behind is not None:
        source = _ON_STACK.sub(f"the result of line {behind}", source)
    if guard.kind == "size":
        if behind is not None:
            return _on_size_behind(source, full_source(guard.source or ""), guard.dimension or 0, seen, behind)
        return _on_size(source, guard.dimension or 0, values)
    if guard.kind == "shape_expression":
        return Advice(
            f"a condition on the size of {source} has both outcomes",
            f"`{guard.text}` held for earlier calls and not for this one (dimension {guard.dimension} is now "
            f"{guard.actual or 'another'}), so each outcome has a graph of its own. Take the branch out of the "
            "compiled function, or pad the input so that one outcome always holds.",
        )
    if code_of(guard) == "TPU202":
        return _on_number(source, seen)
    if guard.kind == "value":
        return Advice(
            f"{source} takes several values",
            f"seen: {seen}. Python values other than numbers are part of the graph: each value is compiled once. Keep "
            "the set of values small, or give each a function of its own that is compiled.",
        )
    if guard.kind == "global_state":
        return Advice(
            f"torch's global state changes between calls: {source}",
            f"now: {guard.actual or 'not recorded'}. Call the function under the same grad mode, autocast, default "
            "dtype and determinism each time. Where you need both, give one of them a function of its own that sets "
            "the state inside: compiling the same function twice shares its entries.",
            "model = torch.compile(model)\nmodel(x)\nwith torch.no_grad():\n    model(x)",
            "train = torch.compile(model)\n\n@torch.compile\ndef infer(x):\n    with torch.no_grad():\n"
            "        return model(x)\n\ntrain(x)\ninfer(x)",
        )
    return _on_structure(guard, source, seen)


def _on_size(source: str, dimension: int, values: tuple[str, ...]) -> Advice:
    numbers = sorted(int(v) for v in values if v.lstrip("-").isdigit())
    small = [n for n in numbers if n < 2]
    usual = [n for n in numbers if n >= 2]
    spec = f"{full_source(source)}:{dimension}"
    bounds = f", min={usual[0]}, max={usual[-1]}" if len(usual) > 1 else ""
    call = f"torch._dynamo.mark_dynamic({_name(source)}, {dimension}{bounds})"
    text = (
        f"seen: {', '.join(values)}. Before the first call write `{call}`; or, without a change to the code, set "
        f'`TORCH_COMPILE_DYNAMIC_SOURCES="{spec}"`. Dynamo then traces once for every size. XLA still makes one '
        'executable for each size; where there are many, `options={"buckets": "pow2"}` pads to a few.'
    )
    if small:
        text += (
            f" Size {small[0]} is compiled apart in any case: PyTorch treats sizes 0 and 1 as constants. Leave them "
            "out of the range, and pad such an input to 2."
        )
    before = f"model({_name(source)})"
    return Advice(f"dimension {dimension} of {source} changes", text, before, f"{call}\n{before}")


def _on_size_behind(source: str, spec: str, dimension: int, seen: str, line: int) -> Advice:
    return Advice(
        f"dimension {dimension} of {source} changes",
        f"seen: {seen}. It is computed before the graph break at line {line}, and what is behind the break is compiled "
        "for its size. Without the break there is one graph, whose sizes follow from the function's arguments; or set "
        f'`TORCH_COMPILE_DYNAMIC_SOURCES="{spec}:{dimension}"`, with which Dynamo traces once for every size.',
    )


def _on_number(source: str, seen: str) -> Advice:
    if "." in source or "[" in source:
        attribute = source.rsplit(".", 1)[-1]
        return Advice(
            f"the number {source} changes",
            f"seen: {seen}. A number kept on an object is a constant of the graph. Make it a tensor: it then is an "
            "input, and the graph stays the same.",
            f"self.{attribute} = 0\n...\nself.{attribute} += 1",
            f'self.register_buffer("{attribute}", torch.zeros((), dtype=torch.int64))\n...\nself.{attribute} += 1',
        )
    return Advice(
        f"the number {source} changes",
        f"seen: {seen}. A number that changes from call to call should be a tensor: it then is an input of the graph. "
        f'Or have it traced as a symbol from the first call: `TORCH_COMPILE_DYNAMIC_SOURCES="{full_source(source)}"`.',
        f"model(x, {source}=step)",
        f"model(x, {source}=torch.tensor(step))",
    )


def _on_structure(guard: FailedGuard, source: str, seen: str) -> Advice:
    titles = {
        "rank": (f"{source} has another number of dimensions", "reshape it to one rank before the call."),
        "stride": (f"{source} has another memory layout", "call `.contiguous()` before the call."),
        "dtype": (f"{source} has another dtype", "convert it to one dtype before the call."),
        "device": (f"{source} is on another device", "move it to one device before the call."),
        "requires_grad": (
            f"{source} requires gradients in some calls and not in others",
            "give it the same `requires_grad` each time.",
        ),
        "dispatch_keys": (
            f"{source} is another kind of tensor",
            "do not mix inference-mode tensors, subclasses and plain tensors in calls of one function.",
        ),
        "aliasing": (
            f"the same tensor is passed for several arguments: {source}",
            "pass a copy (`.clone()`), or the same arguments always.",
        ),
        "length": (f"{source} has another length", "pad it to one length, or stack its tensors into one tensor."),
        "keys": (f"{source} has other keys", "fill in every key each time."),
        "type": (f"{source} has another type", "convert it to one type before the call."),
        "identity": (
            f"{source} is another object each time",
            "make it once and pass the same object: a lambda or function defined at each call is new each time.",
        ),
        "expired": ("an object that the graph was made for is gone", "keep the model and its parts alive."),
    }
    title, change = titles.get(guard.kind, (f"a guard on {source} fails", f"keep to what it asks for: `{guard.text}`."))
    return Advice(title, f"seen: {seen}. To compile once, {change}")


def _is_number(value: str | None) -> bool:
    return value is not None and re.fullmatch(r"-?\d+(\.\d+)?(e-?\d+)?", value) is not None


def _name(source: str) -> str:
    """Return a source as the caller writes it: `self`, the receiver, is `model` there."""
    return re.sub(r"^self\b", "model", source)
