"""PyTorch's own surface on the device: what scripts call on torch.cuda and torch.accelerator, generators, addresses."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

import tpu_dynamo

CUDA_NAMES = [
    "Event",
    "Stream",
    "StreamContext",
    "amp",
    "can_device_access_peer",
    "current_device",
    "current_stream",
    "default_generators",
    "default_stream",
    "device",
    "device_count",
    "empty_cache",
    "get_device_capability",
    "get_device_name",
    "get_device_properties",
    "get_rng_state",
    "get_rng_state_all",
    "init",
    "initial_seed",
    "ipc_collect",
    "is_available",
    "is_bf16_supported",
    "is_current_stream_capturing",
    "is_initialized",
    "manual_seed",
    "manual_seed_all",
    "max_memory_allocated",
    "max_memory_reserved",
    "mem_get_info",
    "memory_allocated",
    "memory_reserved",
    "memory_stats",
    "memory_summary",
    "reset_accumulated_memory_stats",
    "reset_max_memory_allocated",
    "reset_peak_memory_stats",
    "seed",
    "seed_all",
    "set_device",
    "set_rng_state",
    "set_rng_state_all",
    "set_stream",
    "stream",
    "synchronize",
]


def test_torch_tpu_has_the_names_that_scripts_call_on_torch_cuda():
    assert [name for name in CUDA_NAMES if not hasattr(torch.tpu, name)] == []
    assert [name for name in CUDA_NAMES if not hasattr(torch.cuda, name)] == []


def test_memory_is_told_in_the_words_of_cuda_and_of_the_accelerator():
    kept = torch.ones(1000, device="tpu")
    free, total = torch.tpu.mem_get_info()
    assert 0 < free <= total == torch.tpu.get_device_properties(0).total_memory
    assert torch.accelerator.get_memory_info()[1] == total
    torch.tpu.reset_peak_memory_stats()
    torch.accelerator.reset_peak_memory_stats()
    torch.accelerator.reset_accumulated_memory_stats()
    torch.accelerator.empty_host_cache()
    assert torch.tpu.max_memory_allocated() >= torch.tpu.memory_allocated() >= kept.nbytes
    assert torch.accelerator.max_memory_allocated() == torch.tpu.max_memory_allocated()
    assert torch.accelerator.max_memory_reserved() >= kept.nbytes
    assert "allocated: " in torch.tpu.memory_summary()
    assert torch.bfloat16 in torch.accelerator.get_device_capability()["supported_dtypes"]


def test_contexts_and_streams_change_nothing():
    with torch.tpu.device(0), torch.tpu.StreamContext(torch.tpu.default_stream()):
        assert torch.tpu.current_device() == 0
    with pytest.raises(RuntimeError, match="does not exist"):
        torch.tpu.device(7)
    assert not torch.tpu.is_current_stream_capturing()
    stream, kept = torch.tpu.Stream(priority=-1), torch.ones(2, device="tpu")
    with torch.tpu.stream(stream):
        kept.record_stream(torch.tpu.current_stream())
    assert isinstance(stream, torch.Stream) and stream.device == kept.device and stream.query()


def test_amp_is_torch_amp_for_the_device():
    with torch.tpu.amp.autocast(dtype=torch.bfloat16):
        product = torch.ones(2, 2, device="tpu") @ torch.ones(2, 2, device="tpu")
    assert product.dtype == torch.bfloat16
    assert torch.tpu.amp.GradScaler().is_enabled()


def test_states_of_all_generators_come_back():
    states = torch.tpu.get_rng_state_all()
    first = torch.rand(3, device="tpu").cpu()
    torch.tpu.set_rng_state_all(states)
    assert torch.equal(first, torch.rand(3, device="tpu").cpu())


def test_a_generator_of_the_device_draws_what_its_seed_says():
    generator = torch.Generator(device="tpu").manual_seed(3)
    assert generator.device == torch.device("tpu", 0)
    first = torch.randn(3, device="tpu", generator=generator).cpu()
    second = torch.empty(3, device="tpu").uniform_(generator=generator).cpu()
    for again in (torch.Generator("tpu:0"), torch.Generator(torch.device("tpu"))):
        again.manual_seed(3)
        assert torch.equal(first, torch.randn(3, device="tpu", generator=again).cpu())
        state = again.get_state()
        for other in (copy.deepcopy(again), pickle.loads(pickle.dumps(again)), again.clone_state()):
            assert other.device.type == "tpu"
            assert torch.equal(second, torch.empty(3, device="tpu").uniform_(generator=other).cpu())
        assert torch.equal(state, again.get_state())
    assert sorted(torch.randperm(5, device="tpu", generator=generator).tolist()) == [0, 1, 2, 3, 4]
    assert torch.multinomial(torch.ones(4, device="tpu"), 2, generator=generator).shape == (2,)
    assert torch.tpu.default_generators[0].device.type == "tpu"


def test_generators_of_other_devices_are_pytorchs_own():
    generator = torch.Generator()
    assert type(generator) is type(torch.Generator("cpu")) is type(torch.default_generator) is torch._C.Generator
    assert isinstance(generator, torch.Generator) and isinstance(torch.Generator("tpu"), torch.Generator)
    assert not isinstance(3, torch.Generator) and issubclass(torch._C.Generator, torch.Generator)
    assert torch.equal(pickle.loads(pickle.dumps(generator)).get_state(), generator.get_state())


def test_addresses_of_views_are_those_of_their_storage_and_offset():
    matrix = torch.arange(12.0, device="tpu").view(3, 4)
    address = matrix.untyped_storage().data_ptr()
    assert matrix.data_ptr() == address and matrix[1, 2].data_ptr() == address + 6 * 4
    assert matrix.t().data_ptr() == address and matrix.clone().data_ptr() != address
    results = torch.compile(lambda x: (x + 1, x * 2), backend="tpu")(matrix)
    assert len({address, *(result.data_ptr() for result in results)}) == 3


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda x: x, id="whole"),
        pytest.param(lambda x: x[1:, ::2].t(), id="view"),
        pytest.param(lambda x: torch.complex(x, x).conj(), id="conjugated"),
        pytest.param(lambda x: torch.complex(x, -x).conj().imag, id="negated"),
        pytest.param(lambda x: x.view(torch.int32), id="another-dtype"),
        pytest.param(lambda x: (x > 3).requires_grad_(False), id="booleans"),
        pytest.param(lambda x: x[:0], id="empty"),
        pytest.param(lambda x: x.to(torch.bfloat16) * 1e-3, id="bfloat16"),
    ],
)
def test_a_printed_tensor_compiles_nothing(make):
    made = make(torch.arange(12.0, device="tpu").view(3, 4))
    tpu_dynamo.reset_stats()
    text = repr(made)
    assert tpu_dynamo.stats().lowerings == tpu_dynamo.stats().executions == 0
    assert "device='tpu:0'" in text
    expected = repr(make(torch.arange(12.0).view(3, 4)))
    flat = "".join(text.replace("device='tpu:0'", "").replace(",", "").split())
    assert flat == "".join(expected.replace(",", "").split())


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")  # of torch.package itself
def test_a_package_keeps_tensors_of_the_device(tmp_path):
    tensor = torch.arange(6.0, device="tpu").view(2, 3)
    with torch.package.PackageExporter(str(tmp_path / "package")) as exporter:
        exporter.extern("**")
        exporter.save_pickle("made", "tensor.pkl", {"whole": tensor, "part": tensor[1]})
    found = torch.package.PackageImporter(str(tmp_path / "package")).load_pickle("made", "tensor.pkl")
    assert found["whole"].device.type == "tpu" and torch.equal(found["whole"].cpu(), tensor.cpu())
    assert found["part"].tolist() == [3, 4, 5]


def test_an_exported_program_of_device_tensors_is_saved_and_loaded(tmp_path):
    model, x = torch.nn.Linear(3, 2).to("tpu"), torch.ones(1, 3, device="tpu")
    torch.export.save(torch.export.export(model, (x,)), tmp_path / "model.pt2")
    loaded = torch.export.load(tmp_path / "model.pt2")
    assert {value.device.type for value in loaded.state_dict.values()} == {"tpu"}
    torch.testing.assert_close(loaded.module()(x).cpu(), model(x).cpu())
