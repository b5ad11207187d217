"""The PJRT client: one a platform, made on demand, forgotten on request."""

from __future__ import annotations

import weakref

import jax
import numpy as np
import pytest
import torch

from tpu_dynamo_lowering import jax_compat
from tpu_dynamo_runtime import (
    Operand,
    Pool,
    ProgramInterface,
    Result,
    SharedExecutable,
    Traffic,
    XlaRuntimeError,
    client,
    clients,
    reset_clients,
)
from tpu_dynamo_runtime._torch_compat import tensor_from_dlpack
from tpu_dynamo_runtime.pjrt import to_dlpack

DOUBLE = """
func.func @main(%x: tensor<4xf32>) -> tensor<4xf32> {
  %y = stablehlo.add %x, %x : tensor<4xf32>
  return %y : tensor<4xf32>
}
"""


def bytecode(text: str) -> bytes:
    return jax_compat.to_bytecode(jax_compat.parse(text.encode(), jax_compat.new_context()))


def test_there_is_one_client_for_a_platform():
    assert client("cpu") is client("auto")


@pytest.fixture
def no_clients(monkeypatch):
    """A process's registry of clients as it is at its start, whatever other tests made."""
    monkeypatch.setattr(clients, "_clients", {})
    monkeypatch.setattr(clients, "_lasting", set())


@pytest.mark.usefixtures("no_clients")
def test_reset_forgets_clients_and_what_they_made_lives_on():
    old = client("cpu")
    pool = Pool(lambda entry: entry.client.compile(entry.stablehlo), Traffic())
    entry = pool.enter(old, bytecode(DOUBLE), "")
    doubled = SharedExecutable(entry, Traffic(), ProgramInterface([Operand(0)], [Result((4,), torch.float32)]))
    del entry
    reset_clients()
    assert client("cpu") is not old
    gone = weakref.ref(old)
    del old
    torch.testing.assert_close(doubled([torch.ones(4)])[0], torch.full((4,), 2.0))
    del doubled
    assert gone() is None


def test_jax_is_left_without_a_backend_of_ours():
    assert client("cpu").device not in jax.local_devices(backend="cpu")


def test_a_bad_program_is_xlas_error():
    bad = DOUBLE.replace("stablehlo.add %x, %x", 'stablehlo.custom_call @nowhere(%x) {backend_config = ""}').replace(
        ": tensor<4xf32>\n  return", ": (tensor<4xf32>) -> tensor<4xf32>\n  return"
    )
    with pytest.raises(XlaRuntimeError, match="nowhere"):
        client("cpu").compile(bytecode(bad))


def test_shared_buffers_are_the_tensors_memory():
    tensor = torch.arange(64.0)
    buffer = client("cpu").put_shared(tensor)
    assert buffer.unsafe_buffer_pointer() == tensor.data_ptr()
    back = tensor_from_dlpack(to_dlpack(buffer, None))
    assert back.data_ptr() == tensor.data_ptr()


def test_copied_buffers_are_not():
    array = np.arange(64.0, dtype=np.float32)
    buffer = client("cpu").put_copied(array)
    array[:] = 0
    np.testing.assert_array_equal(client("cpu").take_copied([buffer])[0], np.arange(64.0))


def test_64_bit_types_stay_whatever_jax_is_set_to():
    assert client("cpu").put_shared(torch.arange(3)).dtype == np.int64
    assert client("cpu").put_copied(np.arange(3.0)).dtype == np.float64


@pytest.mark.usefixtures("no_clients")
def test_a_lasting_client_is_not_forgotten():
    lasting = client("cpu", lasting=True)
    reset_clients()
    assert client("cpu") is lasting
