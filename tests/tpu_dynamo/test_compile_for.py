"""compile_for: what it gives for every kind of model, the same programs as a real run, and no trace in the process."""

from __future__ import annotations

import gc
import random
import types
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch._dynamo.exc import BackendCompilerFailed
from torch._dynamo.testing import CompileCounter
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.testing._internal.two_tensor import TwoTensor

import tpu_dynamo
from tpu_dynamo.ahead_of_time.capture import default_loss
from tpu_dynamo.ahead_of_time.target_graphs import lower_model
from tpu_dynamo.device.operator_programs import device_client
from tpu_dynamo.options import Options
from tpu_dynamo.session import session
from tpu_dynamo_lowering import choice
from tpu_dynamo_runtime import client, plugin_installed

pytestmark = pytest.mark.sampled(2)

needs_libtpu = pytest.mark.skipif(
    not plugin_installed("tpu"), reason="libtpu is not installed: pip install 'tpu-dynamo[tpu]'"
)


class Model(torch.nn.Module):
    def __init__(self, size: int = 64):
        super().__init__()
        self.first = torch.nn.Linear(size, size)
        self.norm = torch.nn.BatchNorm1d(size)
        self.last = torch.nn.Linear(size, size)
        self.last.weight = self.first.weight
        self.seen: list[torch.Tensor] = []

    def forward(self, x):
        hidden = self.norm(torch.relu(self.first(x)))
        self.seen.append(hidden)
        return torch.dropout(self.last(hidden), 0.5, self.training)


def line_of(text: str) -> int:
    with open(__file__) as source:
        return next(i for i, line in enumerate(source, 1) if text in line)


@needs_libtpu
def test_a_meta_model_is_compiled_for_a_chip_and_its_cost_is_told_by_line():
    with torch.device("meta"):
        model, x = Model().eval(), torch.empty(8, 64)
    (graph,) = tpu_dynamo.compile_for(model, (x,), target="v5e:2x2")
    assert (graph.name, graph.role, graph.target) == ("0000-inference", "inference", "v5e:2x2")
    assert "stablehlo.dot_general" in graph.stablehlo
    assert "HloModule" in graph.optimized_hlo
    assert graph.executable
    assert graph.memory.fits
    cost = graph.cost
    assert cost.cycles
    assert cost.flops >= 2 * 2 * 8 * 64 * 64
    rows = cost.by_line()
    assert {(row.file, row.line) for row in rows} <= {
        (__file__, line_of("hidden = self.norm")), (__file__, line_of("return torch.dropout")),
    }  # fmt: skip
    assert sum(row.cycles for row in rows) == cost.cycles
    assert sum(row.bytes_accessed for row in rows) == cost.bytes_accessed
    assert [row.cycles for row in rows] == sorted((row.cycles for row in rows), reverse=True)


class Attention(torch.nn.Module):
    def forward(self, q, k, v):
        # A softmax that libtpu recognises.
        scores = q @ k.transpose(-1, -2)
        powers = torch.exp(scores - scores.amax(-1, keepdim=True))
        return (powers / powers.sum(-1, keepdim=True)) @ v


@needs_libtpu
def test_flags_of_xla_reach_libtpu_and_attention_is_counted_whatever_they_are():
    heads = [torch.empty(4, 12, 512, 64, dtype=torch.bfloat16, device="meta")] * 3
    flags = {"xla_tpu_enable_flash_attention": False}
    (fused,) = tpu_dynamo.compile_for(Attention(), heads, target="v5e:2x2")
    (plain,) = tpu_dynamo.compile_for(Attention(), heads, target="v5e:2x2", options={"xla_flags": flags})
    assert "tpu_custom_call" in fused.optimized_hlo
    assert "tpu_custom_call" not in plain.optimized_hlo
    assert fused.digest == plain.digest
    assert fused.cost.cycles == plain.cost.cycles
    assert (fused.cost.replaced, plain.cost.replaced) == ({"custom-call tpu_custom_call": 1}, {})


@needs_libtpu
@pytest.mark.parametrize("target", ["v5e:2x2", "cpu"])
def test_a_flag_that_the_compiler_does_not_know_is_an_error_of_the_options(target):
    with pytest.raises(tpu_dynamo.OptionError, match="knows no flag 'xla_tpu_nonsense'"):
        tpu_dynamo.compile_for(
            torch.sin, (torch.ones(3),), target=target, options={"xla_flags": {"xla_tpu_nonsense": 1}}
        )


@needs_libtpu
def test_a_program_that_does_not_fit_says_so():
    with torch.device("meta"):
        model, x = torch.nn.Linear(2**16, 2**17, bias=False), torch.empty(1, 2**16)
    (graph,) = tpu_dynamo.compile_for(model, (x,), target="v5e:1x1")
    assert graph.memory.fits is False
    assert graph.memory.total > 2 ** (16 + 17 + 2)
    assert graph.memory.arguments >= 2 ** (16 + 17 + 2)
    assert "stablehlo" in graph.stablehlo
    with pytest.raises(tpu_dynamo.DoesNotFit, match=r"needs 32\.\d\d GiB and v5e:1x1 has 15\.75 GiB"):
        _ = graph.executable
    with pytest.raises(tpu_dynamo.DoesNotFit):
        _ = graph.cost


IN_OTHER_WORDS_ON_A_TPU = {
    "int64 product": (lambda x: x @ x, torch.int64),
    "int64 convolution": (lambda x: torch.nn.functional.conv1d(x[None], x[:, None, :3], groups=8), torch.int64),
    "svd": (lambda x: torch.linalg.svd(x, full_matrices=False), torch.float32),
    "float64 transform": (torch.fft.rfft, torch.float64),
    "nothing to compute": (lambda x: x[:0] @ x, torch.float32),
}


@needs_libtpu
def test_what_xla_refuses_for_a_tpu_as_it_stands_is_said_in_other_words():
    def model(*given):
        return [function(x) for (function, _), x in zip(IN_OTHER_WORDS_ON_A_TPU.values(), given, strict=True)]

    given = [torch.empty(8, 8, dtype=dtype, device="meta") for _, dtype in IN_OTHER_WORDS_ON_A_TPU.values()]
    (graph,) = tpu_dynamo.compile_for(model, given, target="v5e:1x1")
    assert graph.executable
    assert graph.cost.cycles


@needs_libtpu
def test_a_program_of_tensors_without_elements_compiles():
    (graph,) = tpu_dynamo.compile_for(torch.sin, (torch.empty(0, device="meta"),), target="v5e:1x1")
    assert graph.cost.flops == 0


@needs_libtpu
def test_what_xla_has_not_implemented_for_a_tpu_is_named_with_its_line(monkeypatch):
    monkeypatch.setattr("tpu_dynamo_lowering.link.legalise", lambda module: None)

    def model(x):
        return (x @ x) + 1

    x = torch.empty(8, 8, dtype=torch.int64, device="meta")
    with pytest.raises(tpu_dynamo.UnsupportedOp) as caught:
        tpu_dynamo.compile_for(model, (x,), target="v5e:1x1")
    (problem,) = caught.value.problems
    assert problem.operation == "aten.mm.default"
    assert (problem.line.file, problem.line.line) == (__file__, line_of("return (x @ x) + 1"))
    assert "cannot be compiled for tpu" in str(caught.value)
    assert "please report" not in str(caught.value)


def test_what_a_tpu_does_not_have_is_named_with_its_line():
    def model(x):
        return torch.linalg.eigvals(x)

    with pytest.raises(tpu_dynamo.UnsupportedOp, match="XLA has no eig for the platform tpu") as caught:
        lower_model(model, (torch.empty(3, 3),), None, "tpu", Options())
    assert f"{__file__}:{line_of('return torch.linalg.eigvals(x)')}" in str(caught.value)


def test_a_platform_of_this_machine_is_a_target_too():
    (graph,) = tpu_dynamo.compile_for(Model().eval(), (torch.randn(8, 64),), target="cpu")
    assert graph.cost.cycles is None
    assert graph.cost.bytes_accessed
    assert graph.memory.fits is None
    assert graph.executable
    assert repr(graph).startswith("<TargetGraph 0000-inference for cpu: ")


def test_training_gives_both_passes():
    graphs = tpu_dynamo.compile_for(Model(), (torch.randn(8, 64),), target="cpu", training=True)
    assert [graph.name for graph in graphs] == ["0000-forward", "0001-backward"]
    lines = {row.line for row in graphs[1].cost.by_line()}
    assert line_of("hidden = self.norm") in lines


def test_the_loss_is_the_models_own_else_the_sum():
    x, y = torch.ones(3, requires_grad=True), torch.ones(2, requires_grad=True)
    count = torch.tensor(7)
    assert default_loss({"loss": (x * 2).sum(), "logits": y}).item() == 6
    assert default_loss([x, {"more": y}, count, None]).item() == 5
    assert default_loss(types.SimpleNamespace(loss=x * 4)).item() == 12


def test_a_loss_of_the_callers_finds_what_we_cannot():
    class Opaque:
        def __init__(self, tensor):
            self.tensor = tensor

    def model(x):
        return Opaque(x * 2)

    x = torch.randn(4, requires_grad=True)
    with pytest.raises(tpu_dynamo.NotALoss, match="nothing that the model returns requires a gradient"):
        tpu_dynamo.compile_for(model, (x,), target="cpu", training=True)
    graphs = tpu_dynamo.compile_for(model, (x,), target="cpu", training=True, loss=lambda out: out.tensor.sum())
    assert [graph.role for graph in graphs] == ["forward", "backward"]


def test_training_what_has_no_gradient_is_refused():
    with pytest.raises(tpu_dynamo.NotALoss, match="nothing that the model returns requires a gradient"):
        tpu_dynamo.compile_for(Model().requires_grad_(False), (torch.randn(8, 64),), target="cpu", training=True)


@pytest.mark.parametrize("options", [{}, {"partitioner": "default"}], ids=["plain", "options"])
@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
def test_the_programs_are_those_that_a_real_run_compiles(training, options):
    tpu_dynamo.reset()
    model, x = Model().train(training), torch.randn(8, 64)
    graphs = tpu_dynamo.compile_for(model, (x,), target="cpu", training=training, options=options)
    digests = [graph.digest for graph in graphs]
    with torch.set_grad_enabled(training):
        output = torch.compile(model, backend="tpu", options={"target": "cpu", **options})(x)
        if training:
            output.sum().backward()
    assert sum(tpu_dynamo.stats().graphs.values()) == len(digests)
    for digest in digests:
        assert session()._graphs.find(client("cpu"), digest) is not None


class Cache(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("kept", torch.zeros(8, 64))

    def forward(self, x):
        self.kept.add_(x)
        return self.kept.sum()


def test_tensors_on_the_device_give_the_programs_of_the_device():
    tpu_dynamo.reset()
    model, x = Cache().to("tpu"), torch.randn(8, 64).to("tpu")
    with torch.no_grad():
        (graph,) = tpu_dynamo.compile_for(model, (x,), target="cpu")
        torch.compile(model, backend="tpu")(x)
    assert session()._graphs.find(device_client(), graph.digest) is not None
    # The buffer is changed where it lies.
    assert graph.memory.aliased == 8 * 64 * 4


@needs_libtpu
def test_for_a_tpu_a_meta_model_is_one_on_the_device():
    (meta,) = tpu_dynamo.compile_for(Cache().to("meta"), (torch.empty(8, 64, device="meta"),), target="v5e:2x2")
    (host,) = tpu_dynamo.compile_for(Cache(), (torch.empty(8, 64),), target="v5e:2x2")
    assert meta.memory.aliased
    assert not host.memory.aliased


def test_inputs_and_modules_may_be_fake_already():
    with FakeTensorMode():
        model, x = Model().eval(), torch.empty(8, 64)
        (inside,) = tpu_dynamo.compile_for(model, (x,), target="cpu")
    (outside,) = tpu_dynamo.compile_for(model, (x,), target="cpu")
    (real,) = tpu_dynamo.compile_for(Model().eval(), (torch.randn(8, 64),), target="cpu")
    assert inside.digest == outside.digest == real.digest


def test_a_graph_break_makes_graphs_of_their_own():
    def broken(x):
        y = torch.sin(x)
        torch._dynamo.graph_break()
        return torch.cos(y)

    graphs = tpu_dynamo.compile_for(broken, (torch.empty(4, device="meta"),), target="cpu")
    assert [graph.name for graph in graphs] == ["0000-inference", "0001-inference"]
    assert "sine" in graphs[0].stablehlo
    assert "cosine" in graphs[1].stablehlo


def test_methods_keywords_and_compiled_modules_are_models():
    model, x = Model().eval(), torch.empty(8, 64, device="meta")
    model.to("meta")
    (plain,) = tpu_dynamo.compile_for(model, (x,), target="cpu")
    (method,) = tpu_dynamo.compile_for(model.forward, kwargs={"x": x}, target="cpu")
    (compiled,) = tpu_dynamo.compile_for(torch.compile(model, backend="tpu"), (x,), target="cpu")
    (function,) = tpu_dynamo.compile_for(torch.compile(lambda x: x + 1, backend="tpu"), (x,), target="cpu")
    assert plain.digest == method.digest == compiled.digest != function.digest


def test_code_between_graphs_that_needs_values_is_named_with_its_line():
    def peeks(x):
        y = x * 2
        if y.sum() > 0:
            return y
        return -y

    with pytest.raises(tpu_dynamo.NeedsValues, match="asks for the values of a tensor") as caught:
        tpu_dynamo.compile_for(peeks, (torch.randn(4),), target="cpu")
    assert f"{__file__}:{line_of('if y.sum() > 0')}" in str(caught.value)


@torch.library.custom_op("tpu_dynamo_tests::unlowered", mutates_args=())
def unlowered(x: torch.Tensor) -> torch.Tensor:
    """An operator that nothing lowers."""
    raise AssertionError("run")


unlowered.register_fake(torch.empty_like)


def test_what_cannot_be_lowered_is_told_of_all_graphs():
    def bad(x):
        y = unlowered(x)
        torch._dynamo.graph_break()
        return unlowered(y + 1)

    with pytest.raises(tpu_dynamo.UnsupportedOp, match="2 operations"):
        tpu_dynamo.compile_for(bad, (torch.randn(4),), target="cpu")
    assert tpu_dynamo.compile_for(bad, (torch.randn(4),), target="cpu", options={"fallback": "eager"}) == []


@pytest.mark.parametrize(
    ("target", "options", "error", "message"),
    [
        pytest.param("v5e:2x3", None, tpu_dynamo.UnknownTarget, r"did you mean 'v5e:2x\d'", id="unknown-target"),
        pytest.param("cpu", {"tarjet": 1}, tpu_dynamo.OptionError, "unknown option 'tarjet'", id="unknown-option"),
        pytest.param("cpu", {"target": "v5e:2x2"}, tpu_dynamo.OptionError, "leave it out", id="two-targets"),
    ],
)
def test_what_cannot_be_asked_is_refused(target, options, error, message):
    with pytest.raises(error, match=message):
        tpu_dynamo.compile_for(Model(), (torch.randn(8, 64),), target=target, options=options)


def test_torch_compile_refuses_a_topology_and_points_here():
    with pytest.raises(BackendCompilerFailed, match=r"'v5e:2x2' is compile-only(.|\n)*tpu_dynamo\.compile_for"):
        torch.compile(lambda x: x + 1, backend="tpu", options={"target": "v5e:2x2"})(torch.randn(3))


def test_dump_dir_receives_every_form(tmp_path):
    tpu_dynamo.compile_for(Model().eval(), (torch.randn(8, 64),), target="cpu", options={"dump_dir": tmp_path})
    forms = {file.name for file in (tmp_path / "cpu" / "0000-inference").iterdir()}
    assert {"aot.fx.py", "stablehlo.mlir", "optimised.hlo", "versions.json"} <= forms


def test_numbers_that_the_models_code_draws_are_drawn_again():
    @torch.compiler.disable
    def noise() -> float:
        return random.random() + float(np.random.rand())

    def noisy(x):
        return x.sin() + noise()

    before = random.getstate(), np.random.get_state()[1:3]
    assert tpu_dynamo.compile_for(noisy, (torch.randn(3),), target="cpu")
    assert random.getstate() == before[0]
    assert np.array_equal(np.random.get_state()[1], before[1][0])
    assert np.random.get_state()[2] == before[1][1]


def test_parameters_are_parameters_for_the_models_code():
    class Asks(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.randn(3))

        def forward(self, x):
            return x.sin() if isinstance(self.weight, torch.nn.Parameter) else x.cos()

    (graph,) = tpu_dynamo.compile_for(Asks(), (torch.randn(3),), target="cpu")
    assert "stablehlo.sine" in graph.stablehlo


@pytest.mark.parametrize("device", ["cpu", "meta", "tpu"])
def test_a_parameter_that_holds_several_tensors_gives_an_argument_for_each(device):
    model = torch.nn.Linear(4, 3, bias=False, device=device)
    held = [torch.empty(3, 4, device=device) for _ in range(2)]
    model.weight = torch.nn.Parameter(TwoTensor(*held), requires_grad=False)
    weight = model.weight
    (graph,) = tpu_dynamo.compile_for(model, (torch.empty(2, 4, device=device),), target="cpu")
    (main,) = (line for line in graph.stablehlo.splitlines() if "@main(" in line)
    assert main.count("tensor<3x4xf32>") == 2
    assert model.weight is weight
    assert [weight.a.data_ptr(), weight.b.data_ptr()] == [each.data_ptr() for each in held]


def test_what_breaks_in_a_stage_is_told_without_dynamos_wrapping(monkeypatch):
    monkeypatch.setattr(choice, "PATTERNS", {*choice.PATTERNS, torch.ops.aten.linalg_qr.default})
    with pytest.raises(tpu_dynamo.CompilationFailed, match="torch-mlir failed"):
        tpu_dynamo.compile_for(torch.linalg.qr, (torch.randn(3, 3),), target="cpu")


@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
def test_module_gradients_random_numbers_and_counts_are_as_before(training):
    model, x = Model().train(training), torch.randn(8, 64, requires_grad=True)
    model.norm.weight.grad = torch.ones(64)
    state = {name: (value, value.clone()) for name, value in model.state_dict(keep_vars=True).items()}
    counts, attributes = tpu_dynamo.stats(), {module: dict(vars(module)) for module in model.modules()}
    numbers = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    tpu_dynamo.compile_for(model, (x,), target="cpu", training=training)
    assert tpu_dynamo.stats() == counts
    assert torch.equal(torch.get_rng_state(), numbers[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == numbers[1:]
    assert {module: dict(vars(module)) for module in model.modules()} == attributes
    assert model.seen == []
    assert model.last.weight is model.first.weight
    for name, value in model.state_dict(keep_vars=True).items():
        assert value is state[name][0]
        assert torch.equal(value, state[name][1])
    assert x.grad is None
    assert model.first.weight.grad is None
    assert torch.equal(model.norm.weight.grad, torch.ones(64))


def test_functions_that_dynamo_compiled_before_are_not_compiled_again():
    def function(x):
        return torch.sin(x) + 1

    counter = CompileCounter()
    compiled = torch.compile(function, backend=counter)
    compiled(torch.randn(3))
    for size in range(4, 16):  # more than Dynamo's limit of recompilations
        tpu_dynamo.compile_for(function, (torch.randn(size),), target="cpu")
    compiled(torch.randn(3))
    assert counter.frame_count == 1


def test_sizes_that_only_compile_for_saw_make_nothing_dynamic():
    def function(x):
        return torch.sin(x) + 1

    tpu_dynamo.compile_for(function, (torch.randn(4),), target="cpu")
    counter = CompileCounter()
    compiled = torch.compile(function, backend=counter)
    for size in (5, 6, 7):
        compiled(torch.randn(size))
    assert counter.frame_count == 2  # for 5, then for any


def test_sizes_that_runs_saw_make_nothing_dynamic_here(tmp_path):
    def function(x):
        return torch.sin(x) + 1

    compiled = torch.compile(function, backend="eager")
    for size in (5, 6):
        compiled(torch.randn(size))
    tpu_dynamo.compile_for(function, (torch.randn(7),), target="cpu", options={"dump_dir": tmp_path})
    graph = (tmp_path / "cpu" / "0000-inference" / "aot.fx.py").read_text()
    assert "f32[7]" in graph


def test_every_call_sees_the_sizes_of_its_own_inputs():
    def function(x):
        return x + 1

    texts = [tpu_dynamo.compile_for(function, (torch.empty(n),), target="cpu")[0].stablehlo for n in (3, 4, 5)]
    assert [f"tensor<{n}xf32>" in text for n, text in zip((3, 4, 5), texts, strict=True)] == [True] * 3


def test_dynamo_keeps_nothing_of_the_capture():
    def captured() -> weakref.ref[Model]:
        model = Model().eval()
        tpu_dynamo.compile_for(lambda x: model(x), (torch.randn(8, 64),), target="cpu")
        return weakref.ref(model)

    alive = captured()
    gc.collect()
    assert alive() is None


def test_many_threads_may_compile():
    def digest(n: int) -> str:
        return tpu_dynamo.compile_for(Model().eval(), (torch.empty(n, 64),), target="cpu")[0].digest

    with ThreadPoolExecutor(4) as threads:
        digests = list(threads.map(digest, [2, 3, 2, 3]))
    assert digests[0] == digests[2] != digests[1] == digests[3]


def test_dynamo_that_is_switched_off_is_an_error_that_says_so():
    with torch._dynamo.config.patch(disable=True), pytest.raises(RuntimeError, match="unset TORCHDYNAMO_DISABLE"):
        tpu_dynamo.compile_for(torch.nn.Linear(2, 2), (torch.ones(1, 2),), target="cpu")


class Stack(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(128, 512, bias=False)
        self.last = torch.nn.Linear(512, 128, bias=False)

    def forward(self, x):
        return self.last(torch.relu(self.first(x)))


def split_stack(mesh):
    model = Stack()
    parallelize_module(model, mesh["tp"], {"first": ColwiseParallel(), "last": RowwiseParallel()})
    return model, (torch.empty(16, 128),)


@needs_libtpu
def test_a_model_on_a_mesh_is_compiled_for_all_chips_and_its_communication_told():
    forward, backward = tpu_dynamo.compile_for(split_stack, target="v5e:2x2", mesh={"dp": 2, "tp": 2}, training=True)
    assert forward.span == (0, 1)  # the ranks that exchange something with this one
    assert backward.communication is None  # the gradients of its own shards
    found = forward.communication
    assert list(found.by_axis()) == ["tp"]
    assert found.by_axis()["tp"].nbytes == 16 * 128 * 4
    assert list(found.by_line()) == [(__file__, line_of("return self.last(torch.relu"))]
    assert found.step[0] <= found.step[1]
    assert not torch.distributed.is_initialized()


@needs_libtpu
def test_a_whole_step_is_compiled_ahead_of_time():
    with torch.device("meta"):
        model, x = Stack(), torch.empty(16, 128)
    (graph,) = tpu_dynamo.compile_for(
        model, (x,), target="v5e:2x2", loss=lambda y: y.square().mean(), optimizer=torch.optim.AdamW
    )
    assert graph.role == "step"
    assert graph.memory.aliased >= 3 * 4 * 2 * 128 * 512  # parameters and state are overwritten
    assert graph.communication is None


@pytest.mark.parametrize(
    ("mesh", "target", "why"),
    [({"dp": 3}, "v5e:2x2", "3 ranks"), ({"dp": 4}, "cpu", "topology"), ({}, "v5e:2x2", "ranks")],
)
def test_a_mesh_without_the_chips_for_it_is_an_error(mesh, target, why):
    with pytest.raises(ValueError, match=why):
        tpu_dynamo.compile_for(split_stack, target=target, mesh=mesh)
