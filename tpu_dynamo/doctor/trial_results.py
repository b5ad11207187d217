"""Judges what the stages of the trial found: which platforms there are, and whether compiling works."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tpu_dynamo.formatting import format_count, format_duration

from . import trial
from .check import Check
from .trial_process import stages

GROUPS = PLATFORMS, NAMES, WORKING = "Platforms", "Names", "End to end"
# Relative to the largest value of each tensor; float32 and other orders of summation.
_TOLERANCE = 1e-3

_INSTALL = {"tpu": 'pip install "tpu-dynamo[tpu]"', "cuda": 'pip install "jax[cuda13]"'}
_ADVICE = {
    "the interpreter": "python itself does not start; look at PYTHONPATH",
    "import torch": "reinstall torch: pip install --force-reinstall 'torch~=2.13.0'",
    "import torch-mlir": "reinstall torch-mlir in the version that tpu-dynamo needs; see Versions",
    "PJRT's CPU client": "look at XLA_FLAGS, of which an unknown flag ends the process, and at jaxlib's version",
}

Found = Mapping[str, Any]


def checks(*, quick: bool = False) -> Iterator[Check]:
    """Check the platforms, the device's owner, and compiled models. quick: compile none."""
    compiling = ("compile and compare", f"compile for {trial.TOPOLOGY}")
    plugins: dict[str, bool] = {}
    for found in stages(compiling if quick else ()):
        stage = found["stage"]
        if "error" in found:
            yield _broken(found, plugins)
        elif stage in _JUDGES:
            yield from _JUDGES[stage](found)
        plugins |= found.get("plugins", {})


def _broken(found: Found, plugins: Mapping[str, bool]) -> Check:
    stage, error = found["stage"], found["error"]
    facts = {name: found[name] for name in ("log", "code") if found.get(name)}
    if stage == f"compile for {trial.TOPOLOGY}" and not plugins.get("tpu"):
        return Check(PLATFORMS, trial.TOPOLOGY, "note", "libtpu is not installed", _INSTALL["tpu"], facts)
    group = NAMES if stage in ('torch.device("tpu")', "the backend") else WORKING
    log = f"\n{found['log']}" if found.get("log") else ""
    advice = _ADVICE.get(stage)
    if advice is None and found.get("code"):
        advice = f"`tpu-dynamo explain {found['code']}`"
    return Check(group, stage, "error", f"{error}{log}", advice or "report it, with `tpu-dynamo doctor --json`", facts)


def _cpu(found: Found) -> Iterator[Check]:
    yield Check(PLATFORMS, "cpu", "ok", f"XLA's CPU client, for {found['CPUs']} CPUs", facts=found)


def _platforms(found: Found) -> Iterator[Check]:
    chips, plugins = found["chips"], found["plugins"]
    if chips and plugins["tpu"]:
        yield Check(PLATFORMS, "tpu", "ok", f"{chips} chips are attached", facts={"chips": chips})
    elif chips:
        text = f"{chips} chips are attached, and libtpu is not installed: everything runs on the CPU"
        yield Check(PLATFORMS, "tpu", "error", text, _INSTALL["tpu"], {"chips": chips})
    else:
        yield Check(PLATFORMS, "tpu", "note", "no TPU is attached to this machine", facts={"chips": 0})
    if plugins["cuda"]:
        yield Check(PLATFORMS, "cuda", "ok", "a PJRT plugin is installed; it is used where it is asked for by name")
    else:
        yield Check(PLATFORMS, "cuda", "note", f"no PJRT plugin is installed ({_INSTALL['cuda']})")
    yield Check(PLATFORMS, 'target "auto"', "ok", f"means {found['auto']} here", facts={"auto": found["auto"]})


def _topology(found: Found) -> Iterator[Check]:
    text = f"libtpu compiles for it, here in {format_duration(found['seconds'])}; nothing runs on it"
    yield Check(PLATFORMS, trial.TOPOLOGY, "ok", text, facts=found)


def _device(found: Found) -> Iterator[Check]:
    owner = found["owner"]
    if owner == "tpu-dynamo":
        yield Check(NAMES, 'torch.device("tpu")', "ok", "ours", facts=found)
    else:
        text = f"another package took PyTorch's one slot for devices, as {owner!r}; CPU tensors work"
        advice = "uninstall that package, or see `tpu-dynamo explain TPU504`"
        yield Check(NAMES, 'torch.device("tpu")', "warning", text, advice, found)


def _backend(found: Found) -> Iterator[Check]:
    if found["module"] != "tpu_dynamo.backend":
        text = f"Dynamo takes {found['module']}.{found['name']}, which another package registered"
        yield Check(NAMES, "Dynamo's tpu", "warning", text, 'torch.compile(model, backend="tpu_dynamo")', found)


def _compared(found: Found) -> Iterator[Check]:
    graphs = sum(found["graphs"].values())
    text = f"{format_count(graphs, 'graph')} in {format_duration(found['seconds'])}"
    if not graphs or not found["executions"]:
        advice = "look at TORCH_COMPILE_DISABLE and TORCHDYNAMO_DISABLE; else report it"
        yield Check(WORKING, "torch.compile", "error", "nothing was compiled", advice, found)
    elif found["apart"] > _TOLERANCE:
        advice = "report it, with `tpu-dynamo doctor --json`"
        apart = f"{text}; results and gradients are {found['apart']:.1e} apart from eager PyTorch's"
        yield Check(WORKING, "torch.compile", "error", apart, advice, found)
    else:
        text += f"; {found['tensors']} results and gradients agree with eager"
        yield Check(WORKING, "torch.compile", "ok", text, facts=found)


_JUDGES: dict[str, Callable[[Found], Iterator[Check]]] = {
    "PJRT's CPU client": _cpu,
    "platforms": _platforms,
    'torch.device("tpu")': _device,
    "the backend": _backend,
    "compile and compare": _compared,
    f"compile for {trial.TOPOLOGY}": _topology,
}
