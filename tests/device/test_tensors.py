"""Tensors of torch.device("tpu"): memory, views, copies, saving, errors."""

from __future__ import annotations

import copy
import gc
import io
import pickle

import pytest
import torch

import tpu_dynamo

pytestmark = pytest.mark.sampled(2)


@pytest.fixture
def matrix() -> torch.Tensor:
    return torch.arange(12.0).view(3, 4).to("tpu")


def same(actual: torch.Tensor, expected: torch.Tensor) -> None:
    assert actual.device.type == "tpu"
    torch.testing.assert_close(actual.cpu(), expected)


VIEWS = {
    "row": lambda x: x[1],
    "column": lambda x: x[:, 2],
    "transposed": lambda x: x.t(),
    "step": lambda x: x[::2, 1::2],
    "diagonal": lambda x: x.diagonal(),
    "reshaped": lambda x: x.view(2, 6)[1, 1:],
    "unfolded": lambda x: x.unfold(1, 2, 2)[0],
    "permuted slice": lambda x: x.view(3, 2, 2).permute(2, 0, 1)[1],
    "bytes": lambda x: x.view(torch.int32),
    "detached": lambda x: x.detach()[0],
}


@pytest.mark.parametrize("name", VIEWS)
def test_views_alias_their_base_in_both_directions(name, matrix):
    host, view = matrix.cpu(), VIEWS[name]
    for operation in (lambda v: v.add_(1), lambda v: v.copy_(torch.ones(v.shape, dtype=v.dtype)), lambda v: v.zero_()):
        operation(view(matrix))
        operation(view(host))
        same(matrix, host)
    matrix.mul_(2).add_(3)
    host.mul_(2).add_(3)
    same(view(matrix), view(host))
    assert view(matrix).untyped_storage() is matrix.untyped_storage()
    assert (view(matrix).stride(), view(matrix).storage_offset()) == (view(host).stride(), view(host).storage_offset())


def test_expanded_tensors_read_one_row_many_times(matrix):
    same(matrix[0].expand(5, 4) + 1, matrix.cpu()[0].expand(5, 4) + 1)


@pytest.mark.parametrize(
    "dtype", [torch.bool, torch.uint8, torch.int64, torch.bfloat16, torch.float64, torch.complex64]
)
def test_numbers_survive_the_way_there_and_back(dtype):
    host = torch.tensor([[0, 1, 2], [3, 4, 5]]).to(dtype)
    for tensor in (host, host.t(), host[:, ::2], host[0, 0], host[:0]):
        back = tensor.to("tpu").cpu()
        assert torch.equal(back, tensor)
    assert host.t().to("tpu").stride() == host.t().stride()


def test_in_place_operations_through_views_are_seen_by_autograd():
    def gradient(device):
        x = torch.arange(6.0, device=device).view(2, 3).requires_grad_()
        y = x * 2
        y[:, 1].mul_(3)
        y[0] = 7
        y.sigmoid().sum().backward()
        return x.grad.cpu()

    torch.testing.assert_close(gradient("tpu"), gradient("cpu"))


def test_lazily_conjugated_and_negated_tensors(matrix):
    spectrum, host = torch.fft.fft(matrix), torch.fft.fft(matrix.cpu())
    same(spectrum.conj() * 2, host.conj() * 2)
    same(spectrum.conj().imag + 0, host.conj().imag + 0)
    target, expected = torch.zeros(3, 4, dtype=torch.complex64), torch.zeros(3, 4, dtype=torch.complex64)
    target = target.to("tpu")
    target.conj().copy_(spectrum)
    expected.conj().copy_(host)
    same(target, expected)


def test_saving_and_loading(matrix, tmp_path):
    path = tmp_path / "tensors.pt"
    torch.save({"whole": matrix, "row": matrix[1]}, path)
    for place in ("cpu", "tpu", None):
        loaded = torch.load(path, map_location=place)
        assert loaded["whole"].device.type == (place or "tpu")
        torch.testing.assert_close(loaded["whole"].cpu(), matrix.cpu())
        loaded["whole"][1] = 5  # what was one storage is one storage
        torch.testing.assert_close(loaded["row"].cpu(), torch.full((4,), 5.0))


def test_a_model_is_saved_on_one_device_and_loaded_on_the_other():
    model = torch.nn.Linear(3, 2).to("tpu")
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = torch.nn.Linear(3, 2)
    other.load_state_dict(torch.load(file, map_location="cpu"))
    torch.testing.assert_close(other.weight, model.weight.cpu())
    model.load_state_dict({name: value + 1 for name, value in other.state_dict().items()})
    torch.testing.assert_close(model.weight.cpu(), other.weight + 1)


def test_copies_are_independent(matrix):
    for duplicate in (copy.deepcopy(matrix), pickle.loads(pickle.dumps(matrix)), matrix.clone()):
        before = matrix.cpu()
        duplicate.add_(1)
        same(matrix, before)
        same(duplicate, before + 1)
    module = copy.deepcopy(torch.nn.BatchNorm1d(3).to("tpu"))
    assert module.running_mean.device.type == "tpu"


def test_printing_fetches(matrix):
    assert repr(matrix).startswith("tensor([[ 0.,  1.,  2.,  3.]")
    assert "device='tpu:0'" in repr(matrix)


def test_numpy_is_refused_as_pytorch_refuses_it(matrix):
    with pytest.raises(TypeError, match=r"can't convert tpu:0 device type tensor to numpy"):
        matrix.numpy()


def test_tensors_of_two_devices_do_not_meet(matrix):
    with pytest.raises(RuntimeError, match=r"Expected all tensors to be on the same device.*tpu:0 and cpu"):
        matrix + torch.ones(3, 4)
    same(matrix + torch.tensor(2.0), matrix.cpu() + 2)
    same(matrix[torch.tensor([2, 0])], matrix.cpu()[[2, 0]])


def test_there_is_one_index(matrix):
    with pytest.raises(RuntimeError, match="tpu:1 does not exist"):
        torch.empty(2, device="tpu:1")


def test_changing_numbers_compile_nothing_anew(matrix):
    def step(k: float) -> None:
        x = matrix.clone()
        x.mul_(k).add_(matrix, alpha=k).addcdiv_(matrix, matrix + 1, value=k).fill_(k)
        torch._foreach_addcdiv_([x], [matrix], [matrix + 1], [k])

    step(0.25)
    tpu_dynamo.reset_stats()
    step(0.75)
    stats = tpu_dynamo.stats()
    assert (stats.lowerings, stats.xla_compiles, stats.fallbacks) == (0, 0, {})
    assert stats.executions > 0


def test_what_depends_on_values_runs_on_the_cpu_and_is_counted(matrix):
    tpu_dynamo.reset_stats()
    same(matrix[matrix > 6], torch.arange(7.0, 12.0))
    assert any("nonzero" in why for why in tpu_dynamo.stats().fallbacks)


def test_random_numbers_follow_the_seed():
    def draws() -> list[torch.Tensor]:
        return [torch.randn(50, device="tpu").cpu(), torch.rand(50, device="tpu").cpu()]

    torch.manual_seed(5)
    first = draws()
    state = torch.tpu.get_rng_state()
    later = draws()
    torch.manual_seed(5)
    again = draws()
    torch.tpu.set_rng_state(state)
    torch.testing.assert_close(again, first)
    torch.testing.assert_close(draws(), later)
    assert not torch.equal(first[0], later[0])


def test_memory_is_freed_with_the_last_tensor():
    gc.collect()
    before = torch.tpu.memory_allocated()
    tensor = torch.zeros(1000, 1000, device="tpu")
    view = tensor[1:]
    assert torch.tpu.memory_allocated() >= before + 4_000_000
    del tensor
    assert float(view.sum()) == 0
    del view
    assert torch.tpu.memory_allocated() < before + 1_000_000


def test_ten_thousand_operations_leave_nothing_behind():
    x = torch.ones(10, device="tpu")
    (x + 1).mul_(2)
    buffers = len(tpu_buffers())
    for _ in range(5000):
        (x + 1).mul_(2)
    assert len(tpu_buffers()) <= buffers + 2


def tpu_buffers() -> list[object]:
    from tpu_dynamo.device.operator_programs import device_client

    return list(device_client()._client.live_buffers())


def test_the_accelerator_is_the_device():
    assert torch.accelerator.current_accelerator().type == "tpu"
    assert torch.tpu.is_available()
    assert torch.tpu.device_count() == 1
    assert torch.zeros(1).tpu().is_tpu
    torch.tpu.synchronize()


def test_events_measure_and_streams_change_nothing(matrix):
    start, end = torch.tpu.Event(enable_timing=True), torch.tpu.Event(enable_timing=True)
    with pytest.raises(RuntimeError, match="must be recorded"):
        start.elapsed_time(end)
    with torch.tpu.stream(torch.tpu.Stream()) as stream:
        start.record()
        matrix.add_(1)
        end.record(stream)
    assert start.elapsed_time(end) >= 0
    assert torch.tpu.current_stream().query()


def test_constants_are_told_apart_by_their_bits():
    x = torch.ones(3).to("tpu")
    for value in (0.0, -0.0):
        replaced = torch.nn.functional.threshold(x, 5.0, value).cpu()
        assert torch.equal(torch.signbit(replaced), torch.signbit(torch.full((3,), value)))


def test_lists_of_integers_stay_integers():
    tensors = [torch.tensor([2**53 + 1]), torch.tensor([1])]
    sums = torch._foreach_add([t.to("tpu") for t in tensors], [2, 3])
    assert [int(s) for s in sums] == [2**53 + 3, 4]


def test_attention_broadcasts_its_batches():
    def gradients(device):
        torch.manual_seed(0)
        query, key = torch.randn(2, 2, 4, 8).to(device), torch.randn(1, 2, 4, 8).to(device).requires_grad_()
        torch.nn.functional.scaled_dot_product_attention(query, key, key).square().sum().backward()
        return key.grad.cpu()

    torch.testing.assert_close(gradients("tpu"), gradients("cpu"))


def test_copies_to_the_host_that_need_not_be_waited_for_have_their_values():
    tensor = torch.arange(6.0).view(2, 3).to("tpu", non_blocking=True)
    copies = {
        "to": tensor.to("cpu", non_blocking=True),
        "copy": tensor.to("cpu", non_blocking=True, copy=True),
        "other dtype": tensor.to("cpu", torch.float64, non_blocking=True),
        "transposed": tensor.t().to("cpu", non_blocking=True).t(),
        "pinned": tensor.cpu().pin_memory(),
        "copy_": torch.empty(2, 3).copy_(tensor, non_blocking=True),
        "compiled": torch.compile(lambda x: x.to("cpu", non_blocking=True), backend="tpu")(tensor),
    }
    for name, found in copies.items():
        torch.testing.assert_close(found, torch.arange(6.0).view(2, 3), check_dtype=False, msg=name)
    assert tensor.to(torch.int32, non_blocking=True).device.type == "tpu"


def test_a_storage_is_freed_and_taken_again():
    tensor = torch.ones(2, 3, device="tpu")
    view, storage = tensor[1:], tensor.untyped_storage()
    assert storage.size() == 24
    storage.resize_(0)
    assert (storage.size(), tensor.shape, storage.cell) == (0, (2, 3), None)
    for read in (lambda: tensor + 1, lambda: view.cpu()):
        with pytest.raises(RuntimeError, match="has no memory: its storage was resized to 0"):
            read()
    storage.resize_(24)
    assert storage.size() == 24
    tensor.copy_(torch.full((2, 3), 2.0))
    same(view, torch.full((1, 3), 2.0))
    storage.resize_(32)  # longer, with its values
    same(torch.empty(0, device="tpu").set_(storage), torch.tensor([2.0] * 6 + [0.0] * 2))
    with pytest.raises(RuntimeError, match="can be resized to 0 or made larger, not to 8"):
        storage.resize_(8)


def test_a_process_of_torchruns_names_its_device_by_its_number_on_the_host(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "3")
    torch.tpu.set_device(3)
    torch.tpu.set_device("tpu:3")
    assert torch.tpu.device_count() == 1 and torch.tpu.current_device() == 0
    for tensor in (torch.ones(2, device="tpu:3"), torch.ones(2).to(torch.device("tpu", 3))):
        assert tensor.device == torch.device("tpu", 0)
    with pytest.raises(RuntimeError, match="tpu:2 does not exist"):
        torch.tpu.set_device(2)
    with pytest.raises(RuntimeError, match="tpu:2 does not exist"):
        torch.ones(2, device="tpu:2")


def test_views_of_one_order_are_one_program():
    """A column of a matrix of any width is the same operand: the strides of a token's slice grow with the text."""

    def total(width: int) -> torch.Tensor:
        x = torch.arange(3.0 * width).view(3, width).to("tpu")
        return torch.cosh(x[:, -1:] / 100).cpu()

    total(4)
    before = tpu_dynamo.stats()
    expected = torch.cosh(torch.arange(15.0).view(3, 5)[:, -1:] / 100)
    torch.testing.assert_close(total(5), expected)
    assert tpu_dynamo.stats().lowerings == before.lowerings
