"""Flags of single compiles: what XLA and libtpu say to them, and where they are part of a key."""

from __future__ import annotations

import pytest

from tpu_dynamo_runtime import FlagRefused, client, cost_of, open_compiler, with_flags
from tpu_dynamo_runtime.xla_flags import refusal_of_flag

from .programs import bytecode, product
from .test_topology_compiler import needs_libtpu


def of_cpu(*flags):
    return client("cpu").compile(product(8), flags)


def test_a_flag_changes_what_the_cpu_client_makes():
    here = client("cpu")
    program = bytecode("""
        func.func @main(%x: tensor<64xf32>) -> tensor<64xf32> {
          %y = stablehlo.tanh %x : tensor<64xf32>
          %z = stablehlo.add %y, %x : tensor<64xf32>
          return %z : tensor<64xf32>
        }""")
    assert "fusion" in here.optimised_hlo(here.compile(program))
    assert "fusion" not in here.optimised_hlo(here.compile(program, (("xla_disable_all_hlo_passes", "True"),)))


@pytest.mark.parametrize(
    ("flag", "value", "unknown"),
    [
        pytest.param("xla_nonsense", "1", True, id="unknown"),
        pytest.param("xla_cpu_enable_fast_math", "maybe", False, id="no-boolean"),
        pytest.param("xla_backend_optimization_level", "0.5", False, id="no-integer"),
        pytest.param("xla_tpu_enable_flash_attention", "True", True, id="of-another-platform"),
    ],
)
def test_the_cpu_client_names_the_flag_that_it_refuses(flag, value, unknown):
    with pytest.raises(FlagRefused, match=f"{flag}.*INVALID_ARGUMENT") as caught:
        of_cpu(("xla_cpu_enable_fast_min_max", "True"), (flag, value))
    assert (caught.value.flag, caught.value.unknown) == (flag, unknown)


@needs_libtpu
def test_libtpu_names_the_flag_that_it_refuses_and_goes_on():
    with open_compiler("v5e:2x2") as compiler:
        with pytest.raises(FlagRefused, match=r"v5e:2x2 knows no flag 'xla_tpu_nonsense'"):
            compiler.compile(product(8), (("xla_tpu_nonsense", "1"),))
        with pytest.raises(FlagRefused, match=r"flag 'xla_tpu_scoped_vmem_limit_kib' cannot be 'x'"):
            compiler.compile(product(8), (("xla_tpu_scoped_vmem_limit_kib", "x"),))
        assert cost_of(compiler.compile(product(8), (("xla_tpu_scoped_vmem_limit_kib", "65536"),)).hlo, 0).cycles


def test_an_error_about_something_else_is_no_refusal():
    flags = (("xla_a", "1"),)
    assert refusal_of_flag("cpu", flags, "INTERNAL: out of luck") is None
    assert refusal_of_flag("cpu", flags, "No such compile option: 'xla_b'") is None
    assert refusal_of_flag("cpu", (), "No such compile option: 'xla_a'") is None


def test_flags_are_part_of_the_environment_and_none_are_no_part():
    here = client("cpu").environment
    assert with_flags(here, ()) is here
    assert with_flags(here, (("xla_a", "1"),))["xla_flags"] == ["xla_a=1"]
