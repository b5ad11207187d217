"""XLA's buffer assignment: the blocks of a program's memory, and the values in them."""

from __future__ import annotations

import pytest

from tpu_dynamo_runtime import open_compiler, peak_of
from tpu_dynamo_runtime.buffer_assignment import blocks_of, hlo_proto
from tpu_dynamo_runtime.protobuf_fields import field_of_bytes, fields_of, numbers_of

from .programs import product


def test_fields_are_read_as_they_were_written():
    long = b"x" * 300
    assert list(fields_of(field_of_bytes(3, long) + b"\x08\x96\x01" + b"\x15abcd")) == [
        (3, long),
        (1, 150),
        (2, b"abcd"),
    ]
    assert numbers_of(b"\x01\x96\x01") == [1, 150]
    assert numbers_of(7) == [7]


@pytest.mark.parametrize(
    "broken", [b"\x08", b"\x0a\x05abc", b"\x0b", b"\x0a\xff"], ids=["cut", "short", "group", "length"]
)
def test_what_is_no_message_is_an_error(broken):
    with pytest.raises(ValueError, match="no protobuf message"):
        list(fields_of(broken))


def test_blocks_add_up_to_xlas_figure():
    with open_compiler("cpu") as compiler:
        compiled = compiler.compile(product(512))
    blocks = blocks_of(compiled.assignment.proto)
    assert sum(block.nbytes for block in blocks) == compiled.memory.total
    assert sorted(block.kind for block in blocks) == ["argument", "argument", "output", "temporary"]
    assert sorted(b.parameter for b in blocks if b.kind == "argument") == [0, 1]
    peak = peak_of(compiled.assignment, compiled.memory)
    assert peak.explained == 1
    assert set(peak.by_line()) <= {("/model.py", 7), ("/model.py", 8)}
    assert peak.moment in {("/model.py", 7), ("/model.py", 8)}


def test_without_an_assignment_nothing_is_explained():
    assert blocks_of(hlo_proto(b"", b"")[:2]) == []
