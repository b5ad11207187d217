"""CPU code that does not know of the device: `python plain_pytorch.py [--slow] [module ...]` imports the modules first.

Prints a line for each function: what it gave, or what it raised. --slow: only what needs a C++ compiler.
"""

from __future__ import annotations

import importlib
import io
import sys
import tempfile
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch.utils import benchmark, checkpoint
from torch.utils.data import DataLoader

FUNCTIONS: list[Callable[[], Any]] = []


def plain(function: Callable[[], Any]) -> Callable[[], Any]:
    FUNCTIONS.append(function)
    return function


def model() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 2))


def numbers(*tensors: torch.Tensor) -> list[Any]:
    return [tensor.tolist() for tensor in tensors]


@plain
def timers() -> Any:
    timer = benchmark.Timer("x + 1", globals={"x": torch.ones(2)})
    return [m.median > 0 for m in (timer.timeit(2), timer.blocked_autorange(min_run_time=0.001))]


@plain
def casts_while_an_output_lives() -> Any:
    made = model()
    first, weight = made(torch.ones(1, 4)), weakref.ref(made[0].weight)
    made.double().to(torch.bfloat16).float()
    first.sum().backward()
    return weight() is made[0].weight, made[0].weight.dtype, made[0].weight.grad.dtype


@plain
def settings() -> Any:
    future = torch.__future__
    flags = future.get_swap_module_params_on_conversion(), future.get_overwrite_module_params_on_conversion()
    return flags, torch.get_default_device(), torch.ones(1).device, torch.Generator().device


@plain
def loaders() -> Any:
    return [numbers(*DataLoader(torch.arange(4), batch_size=2, pin_memory=True, num_workers=n)) for n in (0, 1)]


@plain
def checkpoints() -> Any:
    found = []
    for reentrant in (True, False):
        x, made = torch.ones(2, 4, requires_grad=True), model()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            checkpoint.checkpoint(made, x, use_reentrant=reentrant).sum().backward()
        found += numbers(x.grad, made[0].weight.grad)
    return found


@plain
def random_numbers() -> Any:
    torch.manual_seed(3)
    with torch.random.fork_rng():
        inside = torch.rand(2)
    return numbers(inside, torch.rand(2), torch.randn(2, generator=torch.Generator().manual_seed(4)))


@plain
def saved() -> Any:
    file = io.BytesIO()
    torch.save(model().state_dict(), file)
    file.seek(0)
    return {name: numbers(tensor) for name, tensor in torch.load(file).items()}


@plain
def profiled() -> Any:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], record_shapes=True) as profile:
        model()(torch.ones(1, 4))
    return sorted({event.key for event in profile.key_averages()})


@plain
def mixed_precision() -> Any:
    made, scaler = model(), torch.amp.GradScaler("cpu")
    optimizer = torch.optim.AdamW(made.parameters())
    with torch.autocast("cpu"):
        loss = made(torch.ones(2, 4)).sum()
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    return numbers(loss, made[0].weight)


def compiled(backend: str) -> Any:
    torch._dynamo.reset()
    made = torch.compile(model().eval(), backend=backend)
    made(torch.ones(2, 4)).sum().backward()
    return numbers(made(torch.ones(3, 4)))


@plain
def compiled_by_aot_eager() -> Any:
    return compiled("aot_eager")


def compiled_by_inductor() -> Any:
    return compiled("inductor")


@plain
def accelerator_if_there_is_one() -> Any:
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
        torch.accelerator.empty_cache()
        torch.accelerator.memory_stats()
        return torch.accelerator.memory_allocated()
    return 0


@plain
def waiting_in_a_compiled_function() -> Any:
    torch._dynamo.reset()

    @torch.compile(backend="aot_eager")
    def function(x: torch.Tensor) -> torch.Tensor:
        if torch.accelerator.is_available():
            torch.accelerator.synchronize()
        return x + 1

    return numbers(function(torch.ones(2)))


@plain
def transforms() -> Any:
    def cubes(x: torch.Tensor) -> torch.Tensor:
        return (x**3).sum()

    x = torch.arange(3.0)
    return numbers(torch.func.hessian(cubes)(x), torch.func.vmap(torch.sin)(x), torch.func.jvp(cubes, (x,), (x,))[1])


@plain
def lazy_views() -> Any:
    z = torch.tensor([1 + 2j])
    view = z.conj()
    view.imag.mul_(2)
    view.add_(1j)
    return numbers(z, view)


@plain
def recurrent() -> Any:
    gru, cell = torch.nn.GRU(2, 2), torch.nn.GRUCell(2, 2)
    gru.double()
    cell(torch.ones(1, 2)).sum().backward()
    with torch.device("meta"):
        unmade = torch.nn.GRUCell(2, 2)
    shape = unmade(torch.ones(1, 2, device="meta")).shape
    return gru(torch.ones(1, 1, 2).double())[0].dtype, shape, unmade.to_empty(device="cpu").weight_ih.device


@plain
def exported_and_scripted() -> Any:
    made, x = model().eval(), torch.ones(1, 4)
    return numbers(torch.export.export(made, (x,)).module()(x), torch.jit.trace(made, x)(x))


@plain
def shared_and_offloaded() -> Any:
    made = model()
    made.share_memory()
    x = torch.ones(2, requires_grad=True)
    with torch.autograd.graph.save_on_cpu():
        y = x.exp()
    y.sum().backward()
    return made[0].weight.is_shared(), numbers(x.grad), torch.ones(2).is_pinned()


@plain
def distributed() -> Any:
    with tempfile.NamedTemporaryFile() as file:
        dist.init_process_group("gloo", init_method=f"file://{file.name}", rank=0, world_size=1)
        try:
            parallel, tensor = torch.nn.parallel.DistributedDataParallel(model().eval()), torch.ones(2)
            parallel(torch.ones(1, 4)).sum().backward()
            dist.all_reduce(tensor)
            return numbers(tensor, parallel.module[0].weight.grad)
        finally:
            dist.destroy_process_group()


def main() -> None:
    slow, modules = "--slow" in sys.argv, [name for name in sys.argv[1:] if name != "--slow"]
    for module in modules:
        importlib.import_module(module)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for function in [compiled_by_inductor] if slow else FUNCTIONS:
        torch.manual_seed(1)
        try:
            outcome = function()
        except Exception as error:  # noqa: BLE001  (an error is an outcome too)
            outcome = f"{type(error).__name__}: {error}"
        print(f"{function.__name__}: {outcome}", flush=True)


if __name__ == "__main__":
    main()
