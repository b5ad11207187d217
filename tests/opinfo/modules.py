"""The count of entries of PyTorch's ModuleInfo and of its higher-order operators that agree with eager.

    python -m tests.opinfo.modules [--device] [--match REGEX] [--inputs N]

Modules are called in training and in evaluation, with gradients of parameters and inputs; so are the higher-order
operators. Prints each entry that fails, and the counts at the end; exits 1 where one does. What fails with Dynamo alone
too (backend `aot_eager`, on the CPU) is counted apart: no backend can pass it.
"""

from __future__ import annotations

import argparse
import itertools
import re
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.testing._internal.common_modules import ModuleInfo, module_db
from torch.testing._internal.hop_db import hop_db
from torch.utils import _pytree as pytree

import tpu_dynamo  # noqa: F401, which registers the device

from . import entries

_DTYPE = torch.float32
# From a place to what is called and with what: the same values each time.
Make = Callable[[str], tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]]


def module_cases(info: ModuleInfo, count: int | None = None) -> Iterator[Make]:
    """The module's first `count` inputs, all for None, in evaluation and in training."""
    for training in (False, True):
        torch.manual_seed(0)
        inputs = info.module_inputs_func(info, "cpu", _DTYPE, requires_grad=True, training=training)
        for given in itertools.islice(inputs, count):
            if given.forward_input is not None:
                yield lambda device, given=given, training=training: _module(info, given, training, device)


def _module(info: ModuleInfo, given: Any, training: bool, device: str) -> Any:
    torch.manual_seed(0)
    built = info.module_cls(*given.constructor_input.args, **given.constructor_input.kwargs)
    module = built.to(_DTYPE).train(training).to(device)
    return module, *_moved((given.forward_input.args, given.forward_input.kwargs), device)


def operator_cases(info: Any) -> Iterator[Make]:
    """The first sample of a higher-order operator."""
    torch.manual_seed(0)
    for sample in itertools.islice(info.sample_inputs_func(info, "cpu", _DTYPE, info.supports_autograd), 1):

        def make(device: str, sample: Any = sample) -> Any:
            return info.op, *_moved(((sample.input, *sample.args), sample.kwargs), device)

        yield make


def _moved(values: Any, device: str) -> Any:
    """Copies of the values on a device; what requires a gradient does so still."""

    def moved(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.detach().clone().to(device).requires_grad_(tensor.requires_grad)

    return pytree.tree_map_only(torch.Tensor, moved, values)


def results(make: Make, backend: str | None, device: str, seed: int = 0) -> tuple[Any, Any]:
    """Return a case's results, in eager for no backend, and the gradients of all that requires one; on the CPU."""
    torch._dynamo.reset()
    function, args, kwargs = make(device)
    torch.manual_seed(seed)
    output = (torch.compile(function, backend=backend) if backend else function)(*args, **kwargs)
    given = list(function.parameters()) if isinstance(function, torch.nn.Module) else []
    given += [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    wanted = [leaf for leaf in given if leaf.requires_grad]
    parts = [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, torch.Tensor) and leaf.requires_grad]
    gradients: Any = ()
    if parts and wanted:
        loss = sum(part.double().square().sum() for part in parts)
        gradients = torch.autograd.grad(loss, wanted, allow_unused=True)
    return pytree.tree_map_only(torch.Tensor, lambda tensor: tensor.detach().cpu(), (output, gradients))


def outcome(make: Make, backend: str, device: str) -> str:
    """`passed`, or the first line of what failed; a case that fails in eager on the CPU has passed."""
    try:
        expected = results(make, None, "cpu")
    except Exception:  # noqa: BLE001, since such an input says nothing
        return "passed"
    try:
        random = entries.is_random(expected, results(make, None, "cpu", seed=1))
        entries.agree(results(make, backend, device), expected, values=not random)
    except Exception as error:  # noqa: BLE001, since every kind of failure is counted
        lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith("backend=")]
        return f"{type(error).__name__}: {' '.join(lines[:3])[:220]}"
    return "passed"


def main() -> None:
    """Run and count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", action="store_true", help='on torch.device("tpu")')
    parser.add_argument("--match", default=".*")
    parser.add_argument(
        "--inputs", type=int, help="the first so many inputs of each entry in each mode; all by default"
    )
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    device = "tpu" if given.device else "cpu"
    found = {f"module {info.name}": list(module_cases(info, given.inputs)) for info in module_db}
    for info in hop_db:
        found[f"operator {info.name}-{info.variant_test_name}"] = list(operator_cases(info))
    counts: Counter[str] = Counter()
    for name, cases in found.items():
        if not re.search(given.match, name):
            continue
        kind = name.partition(" ")[0]
        failures = [why for make in cases if (why := outcome(make, "tpu", device)) != "passed"]
        possible = [make for make in cases if not failures or outcome(make, "aot_eager", "cpu") == "passed"]
        failures = [why for make in possible if failures and (why := outcome(make, "tpu", device)) != "passed"]
        counts[f"{kind}s"] += bool(possible)
        counts[f"{kind}s passed"] += bool(possible) and not failures
        if failures or len(possible) < len(cases):
            print(
                f"{name}: {len(failures)} fail, {len(cases) - len(possible)} cannot, of {len(cases)}: {failures[:1]}",
                flush=True,
            )
    for kind in ("module", "operator"):
        print(f"{kind}s on {device}: {counts[f'{kind}s passed']} of {counts[f'{kind}s']} entries")
    sys.exit(any(counts[f"{kind}s passed"] < counts[f"{kind}s"] for kind in ("module", "operator")))


if __name__ == "__main__":
    main()
