"""OpInfo entries in a second process with the first one's cache: all linear algebra, and a spread of the rest.

All entries: `python -m tests.opinfo.processes`, or the long suite.
"""

from __future__ import annotations

import pytest

from . import processes

# Whose programs call into LAPACK.
LINEAR_ALGEBRA = "linalg|svd|pca|qr|cholesky|lu|inverse|pinverse|logdet|triangular|geqrf|ormqr|matrix_exp"


def wrong(match: str, every: int, hows: str = "compiled,device", dtypes: str = "float32") -> list[str]:
    """The cases that go wrong in the second process, each with what went wrong."""
    chosen = processes.cases(hows.split(","), dtypes.split(","), match, every)
    assert chosen
    ran = processes.in_two_processes(chosen)
    return [f"{case}: {why}" for case, first, second in ran if (why := processes.wrong(first, second)) is not None]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["compiled", "device"])
def test_a_second_process_lowers_and_compiles_nothing(how):
    assert wrong(LINEAR_ALGEBRA, every=20, hows=how) == []


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "int64"])
@pytest.mark.parametrize("how", ["compiled", "device"])
def test_a_second_process_lowers_and_compiles_nothing_of_any_entry(how, dtype):
    assert wrong(".*", every=0, hows=how, dtypes=dtype) == []
