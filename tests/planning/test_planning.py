"""Plans for many chips: what is found in models, what layouts there are, what they are estimated at, and their code."""

from __future__ import annotations

import ast
import json

import pytest
import torch
from torch import nn
from torch.distributed.fsdp import fully_shard

import tpu_dynamo
from tpu_dynamo.planning.code import code_of
from tpu_dynamo.planning.data import plan_data
from tpu_dynamo.planning.estimate import Estimator
from tpu_dynamo.planning.laying_out import MicroBatches, lay_out
from tpu_dynamo.planning.layouts import Layout, layouts
from tpu_dynamo.planning.page import page
from tpu_dynamo.planning.pairs import TensorPlan, tensor_plan
from tpu_dynamo.planning.planning import Candidate, Plan, state_of
from tpu_dynamo.planning.profile import blocks_of, profile
from tpu_dynamo_runtime import find_topology, plugin_installed

needs_libtpu = pytest.mark.skipif(
    not plugin_installed("tpu"), reason="libtpu is not installed: pip install 'tpu-dynamo[tpu]'"
)
WIDTH, ROWS, LENGTH, WORDS = 32, 4, 8, 96
PLACES = [[2 * (h % 2) + i % 2, 2 * (h // 2) + i // 2, 0] for h in range(4) for i in range(4)]


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.num_heads, self.head_dim = 4, WIDTH // 4
        self.q = nn.Linear(WIDTH, WIDTH, bias=False)
        self.k = nn.Linear(WIDTH, WIDTH // 2, bias=False)
        self.v = nn.Linear(WIDTH, WIDTH // 2, bias=False)
        self.o = nn.Linear(WIDTH, WIDTH, bias=False)

    def forward(self, x):
        shape = (*x.shape[:-1], -1, self.head_dim)
        q, k, v = (layer(x).view(shape).transpose(1, 2) for layer in (self.q, self.k, self.v))
        found = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return self.o(found.transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = Attention()
        self.up = nn.Linear(WIDTH, 4 * WIDTH)
        self.down = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x):
        x = x + self.attention(x)
        return x + self.down(torch.relu(self.up(x)))


class Model(nn.Module):
    def __init__(self, blocks: int = 3):
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(blocks))
        self.head = nn.Linear(WIDTH, WORDS, bias=False)

    def forward(self, tokens):
        x = self.words(tokens)
        for block in self.blocks:
            x = block(x)
        return nn.functional.cross_entropy(self.head(x).flatten(0, 1), tokens.flatten())


def made():
    with torch.device("meta"):
        return Model(), (torch.empty(ROWS, LENGTH, dtype=torch.int64),), {}


@pytest.fixture(scope="module")
def facts():
    return profile(*made())


@pytest.fixture(scope="module")
def split():
    model = made()[0]
    return tensor_plan(model, blocks_of(model))


def test_blocks_and_pairs_are_found_in_the_modules(split):
    assert blocks_of(Model()) == ("blocks.0", "blocks.1", "blocks.2")
    assert split.patterns == {
        "blocks.*.attention.q": "colwise", "blocks.*.attention.k": "colwise", "blocks.*.attention.v": "colwise",
        "blocks.*.attention.o": "rowwise", "blocks.*.up": "colwise", "blocks.*.down": "rowwise", "words": "embedding",
        "head": "head",
    }  # fmt: skip
    assert split.fits(2)
    assert not split.fits(4)  # two heads of keys


class OneForAll(nn.Module):
    """An attention whose queries, keys and values come from one layer: its columns cannot be dealt out in turn."""

    def __init__(self):
        super().__init__()
        self.num_heads = 4
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)


@pytest.mark.parametrize(
    "module",
    [
        pytest.param(OneForAll, id="queries-keys-and-values-together"),
        pytest.param(lambda: nn.Linear(WIDTH, WIDTH), id="one-layer"),
        pytest.param(lambda: nn.Conv1d(4, 4, 3), id="no-linear-layer"),
    ],
)
def test_where_no_pair_is_found_a_plan_says_so(module):
    model = nn.Sequential(module(), module())
    found = tensor_plan(model, blocks_of(model))
    assert found.missing
    assert not found.fits(2)
    assert all(layout.tensor == 1 for layout in layouts(16, 64, found))


def test_a_profile_counts_what_one_run_needs(facts):
    weights = sum(p.numel() for p in Model().parameters())
    assert sum(facts.parameters.values()) == 4 * weights
    tokens, products = ROWS * LENGTH, weights - WORDS * WIDTH - 3 * 5 * WIDTH
    assert facts.flops >= 6 * tokens * products
    assert facts.entering["blocks.1"] == 4 * tokens * WIDTH
    assert facts.saved["blocks.0"] == facts.saved["blocks.2"] > 4 * tokens * 4 * WIDTH
    assert facts.outputs["head"] == 4 * tokens * WORDS


def test_layouts_use_all_chips_and_share_the_batch_evenly(split):
    found = list(layouts(16, 8, split))
    assert found
    for layout in found:
        assert layout.replicate * layout.shard * layout.tensor == 16
        assert 8 % (layout.data * layout.micro) == 0
        assert layout.tensor <= 2
    assert {layout.name for layout in found} >= {"FSDP 8 x tensor 2", "HSDP 2 x 4 x tensor 2, recomputing"}
    assert Layout(1, 16, 1).mesh == {"shard": 16}
    assert Layout(16, 1, 1).mesh == {"replicate": 16, "shard": 1}
    assert Layout(2, 4, 2).mesh == {"replicate": 2, "shard": 4, "tensor": 2}
    assert Layout(1, 1, 8).mesh == {"tensor": 8}


def test_estimates_tell_what_each_layout_saves_and_exchanges(facts, split):
    estimator = Estimator(facts, split, find_topology("v5e:4x4"), PLACES, 64, 2.0)
    data, sharded, recomputed, tensor = (
        estimator.estimate(layout)
        for layout in (Layout(16, 1, 1), Layout(1, 16, 1), Layout(1, 16, 1, True), Layout(1, 8, 2))
    )
    assert data.memory["parameters"] == 16 * sharded.memory["parameters"]
    assert data.memory["optimizer"] == 2 * data.memory["parameters"]
    assert set(data.communication) == {"reducing gradients"}
    assert set(sharded.communication) == {"gathering parameters", "reducing gradients"}
    assert "tensor parallel" in tensor.communication
    assert recomputed.memory["activations"] < sharded.memory["activations"]
    assert recomputed.compute > sharded.compute
    best, worst = sharded.step
    assert best < worst


def test_the_state_of_an_optimizer_is_counted_from_a_step():
    assert state_of(lambda p: torch.optim.AdamW(p), torch.bfloat16) == 2.0
    assert state_of(lambda p: torch.optim.SGD(p, lr=0.1), torch.float32) == 0.0


@pytest.mark.parametrize(
    "layout",
    [Layout(16, 1, 1), Layout(1, 16, 1, True), Layout(2, 4, 2), Layout(1, 1, 2), Layout(1, 16, 1, micro=2)],
    ids=lambda layout: layout.name,
)
def test_the_code_of_a_layout_is_python_that_says_it(layout, split):
    code = code_of(layout, split, blocks_of(Model()))
    ast.parse(code)
    assert ("parallelize_module" in code) == (layout.tensor > 1)
    assert ("fully_shard" in code) == (layout.data > 1)
    assert ("partial(checkpoint" in code) == layout.recompute


def test_micro_batches_have_the_loss_and_gradients_of_the_whole():
    torch.manual_seed(0)
    model, tokens = Model(1), torch.randint(0, WORDS, (ROWS, LENGTH))
    expected = model(tokens)
    wanted = torch.autograd.grad(expected, list(model.parameters()))
    found = MicroBatches(model, 2)(tokens)
    torch.testing.assert_close(found, expected)
    for ours, theirs in zip(torch.autograd.grad(found, list(model.parameters())), wanted, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_plan_is_said_in_json_and_on_a_page(facts, split):
    topology = find_topology("v5e:4x4")
    estimator = Estimator(facts, split, topology, PLACES, 64, 2.0)
    candidates = [
        Candidate(layout, estimator.estimate(layout), True, clock=topology.chip.clock)
        for layout in (Layout(1, 16, 1), Layout(16, 1, 1))
    ]
    data = plan_data(Plan(topology, 64, True, facts, split, candidates), "models:<b>")
    assert json.loads(json.dumps(data))["layouts"][0]["name"] == "FSDP 16"
    assert "fully_shard" in data["code"]
    shown = page(data)
    assert shown.count("<svg") == 2
    assert "models:&lt;b&gt;" in shown
    assert "<b>" not in shown


def test_no_tensor_parallelism_is_said_in_the_summary(facts):
    plan = Plan(find_topology("v5e:4x4"), 64, True, facts, TensorPlan(missing="there are no pairs"), [])
    assert "no tensor parallelism: there are no pairs" in plan_data(plan, "m")["summary"]


@needs_libtpu
def test_a_layout_compiles_for_the_chips_of_a_topology(split):
    layout = Layout(1, 1, 4)

    def build(mesh):
        with torch.device("meta"):
            model = nn.Sequential(*(nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 64)) for _ in range(2)))
        found = tensor_plan(model, blocks_of(model))
        return lay_out(model, layout, found, blocks_of(model), mesh), (torch.empty(16, 64),)

    (graph,) = tpu_dynamo.compile_for(build, target="v5e:2x2", mesh=layout.mesh)
    assert graph.span == (0, 1, 2, 3)
    assert graph.memory.arguments < 4 * (2 * 2 * 64 * 512) / 2  # a quarter of the weights, and tiles' padding
    exchanged = graph.communication.by_axis()
    assert list(exchanged) == ["tensor"]
    assert exchanged["tensor"].nbytes == 2 * 2 * 16 * 64 * 4 * 3 // 4


@needs_libtpu
def test_replicas_sum_up_the_gradients_of_shards_alone():
    """Of whole gradients it would be as many times more as the shard dimension has ranks."""

    def build(mesh):
        with torch.device("meta"):
            model = nn.Linear(256, 256, bias=False)
        return fully_shard(model, mesh=mesh), (torch.empty(16, 256, device="meta"),)

    mesh = {"replicate": 2, "shard": 2}
    (step,) = tpu_dynamo.compile_for(
        build, target="v5e:2x2", mesh=mesh, optimizer=torch.optim.SGD, loss=lambda out: out.square().mean()
    )
    exchanged = step.communication.by_axis()
    assert exchanged["replicate"].nbytes < 1.1 * (256 * 256 * 4 // 2)  # and the loss
