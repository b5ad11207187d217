"""Products with matrices of four bits, as PyTorch packs them: equal to eager's, or to what packing means."""

from __future__ import annotations

import pytest
import torch

from tpu_dynamo_lowering import canonical, packed_layouts
from tpu_dynamo_lowering.pipeline import trace

aten = torch.ops.aten
Tensor = torch.Tensor


def four_bits(rows: int, shared: int) -> Tensor:
    return torch.randint(0, 16, (rows, shared), dtype=torch.int32)


def scales_and_zeros(groups: int, rows: int, dtype: torch.dtype) -> Tensor:
    return torch.stack([torch.rand(groups, rows) / 8 + 0.01, torch.randn(groups, rows)], -1).to(dtype)


def dequantised(stored: Tensor, group: int, grid: Tensor) -> Tensor:
    """Return [rows, shared] float64 of stored numbers: less 8, by the scale of their group, and its offset."""
    scale, offset = (grid.double()[..., each].T.repeat_interleave(group, 1) for each in (0, 1))
    return (stored.double() - 8) * scale + offset


@pytest.mark.parametrize("rows", [64, 96, 160], ids="{}rows".format)
def test_products_with_matrices_packed_on_the_cpu_are_eagers(rows):
    def packed(stored):
        return aten._convert_weight_to_int4pack_for_cpu(stored, 2)

    def products(xs, packed, group, grids):
        return [aten._weight_int4pack_mm_for_cpu(x, packed, group, grid) for x, grid in zip(xs, grids, strict=True)]

    stored = four_bits(rows, 128)
    laid_out = torch.compile(packed, backend="tpu", fullgraph=True)(stored)
    assert torch.equal(laid_out, packed(stored))
    dtypes = (torch.float32, torch.bfloat16, torch.float16)
    xs, grids = [torch.randn(3, 128).to(d) for d in dtypes], [scales_and_zeros(4, rows, d) for d in dtypes]
    compiled = torch.compile(products, backend="tpu", fullgraph=True)
    found = compiled(xs, laid_out, 32, grids), products(xs, laid_out, 32, grids)
    for actual, expected, x, grid in zip(*found, xs, grids, strict=True):
        exact = x.double() @ dequantised(stored, 32, grid).T
        # Both sum 128 terms in float32, in another order, and round once.
        eps = max(torch.finfo(x.dtype).eps, 128 * torch.finfo(torch.float32).eps)
        torch.testing.assert_close(actual, expected, rtol=2 * eps, atol=16 * eps)
        torch.testing.assert_close(actual.double(), exact, rtol=2 * eps, atol=16 * eps)


def test_the_key_of_a_program_has_the_layout_of_the_cpu(monkeypatch):
    def product(x, packed, grid):
        return aten._weight_int4pack_mm_for_cpu(x, packed, 32, grid)

    given = torch.randn(1, 32), torch.zeros(64, 16, dtype=torch.uint8), torch.zeros(1, 64, 2)
    module = trace(product, [(t.shape, t.stride(), t.dtype) for t in given])
    texts = set()
    for capability in ("AVX512", "AVX2", "DEFAULT"):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda capability=capability: capability)
        texts.add("\n".join(canonical(module, {})))
    assert len(texts) == 3


@pytest.mark.parametrize("capability", ["AVX2", "DEFAULT"])
def test_other_cpus_layouts_come_back_as_they_were(capability, monkeypatch):
    from tpu_dynamo_lowering.kernels import quantised

    monkeypatch.setattr(packed_layouts.torch.backends.cpu, "get_cpu_capability", lambda: capability)
    stored = four_bits(80, 6).numpy()
    packed = quantised.pack_for_cpu(quantised.jnp.asarray(stored), 2)
    assert (stored == quantised._unpacked_for_cpu(packed).T).all()
    first = packed.reshape(-1)[:2] & 15  # of the first column, in rows that are neighbours in a pair or a half's
    assert [int(each) for each in first] == list(stored[[0, 1 if capability == "AVX2" else 2], 0])


def lanes(stored: Tensor, inner: int) -> Tensor:
    """Pack for tensor cores, number by number as a GPU's lanes do. stored: [rows, shared].

    Lane t has the row t / 4 of eight, and of a tile of 16 columns those at 2 (t % 4) + (0, 1, 8, 9); a word has two
    tiles, whose numbers v0 ... v7 stand in it as v7 v5 v3 v1 v6 v4 v2 v0.
    """
    rows, shared = stored.shape
    packed = torch.zeros(rows // 8, shared // (16 * inner), 32, inner // 2, dtype=torch.int64)
    for tile, outer, lane, word in torch.cartesian_prod(*map(torch.arange, packed.shape)).tolist():
        begin = (outer * inner + 2 * word) * 16 + 2 * (lane % 4)
        numbers = [int(stored[8 * tile + lane // 4, begin + step]) for step in (0, 1, 8, 9, 16, 17, 24, 25)]
        places = (0, 16, 4, 20, 8, 24, 12, 28)
        packed[tile, outer, lane, word] = sum(n << place for n, place in zip(numbers, places, strict=True))
    return torch.where(packed >= 2**31, packed - 2**32, packed).to(torch.int32)


@pytest.mark.parametrize("inner", [2, 4, 8])
def test_matrices_are_packed_as_for_tensor_cores(inner):
    def packed(bytes):
        return aten._convert_weight_to_int4pack(bytes, inner)

    def product(x, packed, grid):
        return aten._weight_int4pack_mm(x, packed, 64, grid)

    stored = four_bits(16, 256)
    bytes = (stored[:, ::2] << 4 | stored[:, 1::2]).to(torch.uint8)
    laid_out = torch.compile(packed, backend="tpu", fullgraph=True)(bytes)
    assert torch.equal(laid_out, lanes(stored, inner))
    x, grid = torch.randn(3, 256, dtype=torch.bfloat16), scales_and_zeros(4, 16, torch.bfloat16)
    actual = torch.compile(product, backend="tpu", fullgraph=True)(x, laid_out, grid)
    exact = x.double() @ dequantised(stored, 64, grid).T
    torch.testing.assert_close(actual, exact.bfloat16(), rtol=2**-8, atol=2**-8)
    on_device = aten._weight_int4pack_mm(x.to("tpu"), packed(bytes.to("tpu")), 64, grid.to("tpu"))
    assert torch.equal(on_device.cpu(), actual)


@pytest.mark.parametrize(
    ("group", "dtype", "with_bias"),
    [
        pytest.param(128, torch.float32, False, id="channels"),
        pytest.param(128, torch.float32, True, id="channels-bias"),
        pytest.param(32, torch.float32, False, id="groups"),
        pytest.param(128, torch.bfloat16, False, id="bfloat16"),
        pytest.param(128, torch.bfloat16, True, id="bfloat16-bias"),
    ],
)
def test_dynamic_products_with_four_bits_are_eagers(group, dtype, with_bias):
    def product(x, weights, scales, bias):
        packed = aten._dyn_quant_pack_4bit_weight(weights, scales, bias, group, 128, 48)
        return packed, aten._dyn_quant_matmul_4bit(x, packed, group, 128, 48)

    x = torch.cat([torch.randn(5, 128), torch.rand(1, 128) + 3, torch.zeros(1, 128)]).to(dtype)
    bias = torch.randn(48) if with_bias else None
    given = x, torch.randint(0, 256, (48, 64), dtype=torch.uint8), torch.rand(48, 128 // group) + 0.1, bias
    found = torch.compile(product, backend="tpu", fullgraph=True)(*given)
    for actual, expected in zip(found, product(*given), strict=True):
        eps = torch.finfo(actual.dtype).eps
        torch.testing.assert_close(actual, expected, rtol=4 * eps, atol=64 * eps)


@pytest.mark.parametrize(
    ("product", "given", "why"),
    [
        pytest.param(
            lambda x, w: aten._weight_int4pack_mm_with_scales_and_zeros(x, w, 32, x, x),
            (torch.randn(1, 64), torch.zeros(16, 8, dtype=torch.int32)),
            "Intel's GPUs.*IntxWeightOnlyConfig",
            id="intel",
        ),
        pytest.param(
            lambda x, w: aten._dyn_quant_matmul_4bit(x, w, 64, 64, 16),
            (torch.randn(1, 64), torch.zeros(700, dtype=torch.uint8)),
            "ARM CPUs.*KleidiAI",
            id="arm",
        ),
    ],
)
def test_layouts_of_others_are_refused_in_words(product, given, why):
    with pytest.raises(Exception, match=why):
        torch.compile(product, backend="tpu", fullgraph=True)(*given)


def test_the_device_says_why_it_has_no_kernel():
    x, w = torch.randn(1, 64).to("tpu"), torch.zeros(16, 8, dtype=torch.int32).to("tpu")
    with pytest.raises(NotImplementedError, match=r"Intel's GPUs.*no kernel of it for the CPU either"):
        aten._weight_int4pack_mm_with_scales_and_zeros(x, w, 32, x, x)
