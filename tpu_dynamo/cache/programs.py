"""Level 1 of the cache: from a graph's signature to its program, which is on disk as plain data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch

from tpu_dynamo_lowering import (
    Argument,
    Computed,
    Given,
    Literal,
    MeshGroup,
    Number,
    Output,
    Program,
    Sparse,
    TensorSpec,
    Update,
    View,
)
from tpu_dynamo_runtime.store import Store

from .entries import PROGRAM
from .packed_names import pack_names, unpack_names
from .signature import Signature

KIND = PROGRAM


def find(store: Store, key: str, *, remote: bool = True) -> Program | None:
    """Return the program of graphs whose signature has this key; None where there is none that can be read."""
    entry = store.get(KIND, key, ("description", "stablehlo", "constants", "operations"), remote=remote)
    if entry is None:
        return None
    try:
        return decode(entry.sections)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        store.reject(KIND, key, f"{type(error).__name__}: {error}")
        return None


def keep(store: Store, signature: Signature, program: Program) -> None:
    """Write the program of a graph; its signature's parts are the entry's metadata, which explain later misses."""
    if store.may_write():
        metadata = {"program": program.digest, "key_parts": signature.key_parts, "explanation": signature.explanation}
        store.put(KIND, signature.key, {**encode(program), "graph": signature.text.encode()}, metadata)


def encode(program: Program) -> dict[str, bytes]:
    """Return a program as named sections: JSON, bytecode, the constants' bytes one after the other, and names."""
    described = {
        "digest": program.digest,
        "arguments": [[a.position, _spec(a.spec)] for a in program.arguments],
        "results": [_spec(spec) for spec in program.results],
        "outputs": [_output(output) for output in program.outputs],
        "updates": [[u.position, u.result, u.argument] for u in program.updates],
        "constants": [_spec(_dense(constant)) for constant in program.constants],
        "random_keys": program.random_keys,
        "custom_calls": list(program.custom_calls),
        "storage_offsets": program.storage_offsets,
        "replicas": program.replicas,
    }
    return {
        "description": json.dumps(described, separators=(",", ":")).encode(),
        "stablehlo": program.stablehlo,
        "constants": b"".join(map(_bytes, program.constants)),
        "operations": pack_names(program.operations),
    }


def decode(sections: Mapping[str, bytes]) -> Program:
    """Return the program that `encode` wrote. Raises KeyError, IndexError, TypeError, ValueError, AttributeError or
    RuntimeError for sections that it did not write.
    """
    described = json.loads(sections["description"])
    return Program(
        stablehlo=sections["stablehlo"],
        digest=str(described["digest"]),
        arguments=tuple(Argument(int(position), _read_spec(spec)) for position, spec in described["arguments"]),
        results=tuple(map(_read_spec, described["results"])),
        outputs=tuple(map(_read_output, described["outputs"])),
        updates=tuple(Update(*update) for update in described["updates"]),
        constants=_read_constants(sections["constants"], [_read_spec(spec) for spec in described["constants"]]),
        random_keys=int(described["random_keys"]),
        custom_calls=tuple(map(str, described["custom_calls"])),
        storage_offsets=tuple((int(position), int(offset)) for position, offset in described["storage_offsets"]),
        replicas=int(described["replicas"]),
        operations=unpack_names(sections["operations"]),
    )


def _spec(spec: TensorSpec) -> list[Any]:
    return [list(spec.shape), str(spec.dtype).removeprefix("torch."), list(spec.order), spec.device]


def _read_spec(fields: list[Any]) -> TensorSpec:
    shape, name, order, device = fields
    dtype = getattr(torch, name)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"{name!r} is no dtype")
    return TensorSpec(tuple(map(int, shape)), dtype, tuple(map(int, order)), str(device))


def _output(output: Output) -> list[Any]:
    if isinstance(output, Computed):
        return ["computed", output.result]
    if isinstance(output, View):
        return ["view", output.result, list(output.shape), list(output.stride), output.offset]
    if isinstance(output, Given):
        return ["given", output.position]
    if isinstance(output, Number):
        return ["number", output.result]
    if isinstance(output, MeshGroup):
        return ["mesh group", output.position, output.dimension]
    if isinstance(output, Sparse):
        return ["sparse", list(map(list, output.terms)), list(output.shape), output.gaps]
    # JSON has no infinity, and its numbers would lose which kind they are of.
    value = output.value
    return ["literal", type(value).__name__, value.hex() if isinstance(value, float) else value]


def _read_output(fields: list[Any]) -> Output:
    kind, *values = fields
    if kind == "computed":
        return Computed(int(values[0]))
    if kind == "view":
        result, shape, stride, offset = values
        return View(int(result), tuple(map(int, shape)), tuple(map(int, stride)), int(offset))
    if kind == "given":
        return Given(int(values[0]))
    if kind == "number":
        return Number(int(values[0]))
    if kind == "mesh group":
        return MeshGroup(int(values[0]), int(values[1]))
    if kind == "sparse":
        terms, shape, gaps = values
        return Sparse(tuple((int(i), int(v)) for i, v in terms), tuple(map(int, shape)), bool(gaps))
    if kind != "literal":
        raise ValueError(f"{kind!r} is no kind of output")
    name, value = values
    return Literal(float.fromhex(value) if name == "float" else value)


def _dense(constant: torch.Tensor) -> TensorSpec:
    return TensorSpec(tuple(constant.shape), constant.dtype, tuple(range(constant.ndim)))


def _bytes(constant: torch.Tensor) -> bytes:
    plain = constant.cpu().resolve_conj().resolve_neg().contiguous()
    return plain.reshape(-1).view(torch.uint8).numpy().tobytes()


def _read_constants(data: bytes, specs: list[TensorSpec]) -> tuple[torch.Tensor, ...]:
    found, start = [], 0
    for spec in specs:
        # A copy: memory of a bytes object can be neither written to nor aligned.
        piece = bytearray(data[start : start + spec.nbytes])
        start += spec.nbytes
        plain = (
            torch.frombuffer(piece, dtype=torch.uint8).clone()
            if piece
            else torch.empty(0, dtype=torch.uint8, device="cpu")
        )
        found.append(plain.view(spec.dtype).reshape(spec.shape))
    if start != len(data):
        raise ValueError(f"{len(data)} bytes of constants, not {start}")
    return tuple(found)
