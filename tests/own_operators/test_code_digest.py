"""Digests of functions: what changes them, and what has none."""

from __future__ import annotations

import functools
import threading
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from tpu_dynamo_lowering.code_digest import NoStableKey, digest_of

HEAD = "import functools, jax, jax.numpy as jnp, numpy as np, torch, threading\n"


def made(source, **more):
    """Return the function `f` of a source text, as a module that is imported anew has it."""
    scope = {"__name__": "users_module", **more}
    exec(HEAD + source, scope)
    return scope["f"]


BASE = "def g(x): return jnp.sin(x) * C\nC = 2\ndef f(x, n=1): return g(x) + n"


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(BASE, id="globals"),
        pytest.param("g = jax.jit(lambda x: x * 2)\ndef f(x): return g(x)", id="jit"),
        pytest.param("T = np.arange(3)\ndef f(x): return [x * t for t in T]", id="array-in-comprehension"),
        pytest.param("def h(k):\n  def f(x): return x * k\n  return f\nf = h(2)", id="closure"),
        pytest.param(
            "@jax.custom_vjp\ndef f(x): return x\nf.defvjp(lambda x: (x, None), lambda r, g: (g * 2,))", id="custom-vjp"
        ),
        pytest.param("class K:\n  s = 2\n  def m(self, x): return x * self.s\nf = K().m", id="method"),
        pytest.param("f = functools.partial(lambda x, n: x * n, n=2)", id="partial"),
        pytest.param("def f(x): return f(x - 1) * 2", id="recursion"),
        pytest.param("def f(x):\n  from math import pi\n  return x * pi * 2", id="import-inside"),
    ],
)
def test_equal_code_has_one_digest_and_another_number_another(source):
    assert digest_of(made(source)) == digest_of(made("\n\n" + source))
    changed = source.replace("2", "5") if "2" in source else source.replace("3", "4")
    assert digest_of(made(changed)) != digest_of(made(source))


def test_names_of_variables_elsewhere_and_unread_globals_do_not_count():
    assert digest_of(made(BASE)) == digest_of(made("UNREAD = 7\n" + BASE))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        pytest.param("L = threading.Lock()\ndef f(x): return L", "f reads L, which is a lock", id="lock"),
        pytest.param("def f(x): return other", "passes on the module users_other whole", id="module"),
    ],
)
def test_what_has_no_digest_is_named(source, words):
    with pytest.raises(NoStableKey, match=words):
        digest_of(made(source, other=ModuleType("users_other")))


def test_a_library_is_its_version():
    assert all(map(digest_of, (jnp.sin, functools.reduce, np.sum, torch.sin, jax.nn.gelu, threading.Thread)))
