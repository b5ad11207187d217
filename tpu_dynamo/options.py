"""Every knob of the backend."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveInt, TypeAdapter, ValidationError

from tpu_dynamo_lowering import AttentionForm, with_code
from tpu_dynamo_runtime.xla_flags import XlaFlags

from ._torch_compat import is_inductors_option, modes_of_inductor
from .buckets import BucketTable, parse_buckets

log = logging.getLogger("tpu_dynamo.options")


class OptionError(ValueError):
    """An option that does not exist, or a value that it cannot take."""

    code = "TPU503"

    def __str__(self) -> str:
        return with_code(super().__str__(), self.code)


def _pairs(given: Any) -> Any:
    """Return a dict of flags as sorted pairs of text, as XLA reads them; pairs stay as they are. Raises ValueError."""
    if not isinstance(given, Mapping):
        return given
    for name, value in given.items():
        if not isinstance(name, str) or not isinstance(value, bool | int | float | str):
            raise ValueError(f"{name!r}: {value!r} is no flag's name with a boolean, a number or text")
    return tuple(sorted((name, str(value)) for name, value in given.items()))


@dataclass(frozen=True)
class Options:
    """Every knob of the backend, given as `torch.compile(..., backend="tpu", options={...})`.

    target: the platform to run on: `auto` (a TPU where there is one, else the CPU client), `cpu`, `cuda`, `tpu`.
    fallback: for a graph with an operator that has no lowering, `error` raises UnsupportedOp, `eager` runs that graph
    in eager PyTorch, and `operator` that operator alone, between compiled parts of the graph; counted and named in
    `stats()`.
    dump_dir: a folder that receives every form of every graph, one folder a graph.
    transfer: how CPU tensors reach the CPU client: `shared` without a copy where alignment allows, `copy` as for a
    device with its own memory.
    max_executables: how many executables stay loaded in the process; beyond, the least recently used is unloaded, and
    loaded again when it is called.
    partitioner: how AOTAutograd cuts training graphs: `min_cut` saves values that are expensive to recompute and
    recomputes the rest, `default` saves all values that the backward needs.
    freeze: for inference: parameters and buffers are constants of the program, values that depend on them alone are
    computed once, and batch norms become part of their convolutions; changing one afterwards is an error at the next
    call.
    cache: whether executables are kept on disk and found there by later processes: `True`, `False`, or `read_only`.
    cache_dir: their folder, instead of `TPU_DYNAMO_CACHE_DIR`; see docs/caching.md.
    autograd_cache: whether torch's AOTAutogradCache stores AOTAutograd's results, for later processes.
    activation_memory_budget: the share, from 0 to 1, of the values that `min_cut` would save that may be saved; below 1
    the backward recomputes more.
    attention: the form of scaled_dot_product_attention, of attention with a soft cap that is spelled out, and of
    flex_attention with at most a cap and a window. `plain` is products and a softmax, whose scores are in memory;
    `fused` is a kernel that never has them, interpreted where there is no TPU, and an error for calls that it cannot
    compute; `auto` is the kernel on a TPU whose fast memory does not hold the scores of a block of queries, or where
    few queries see some of 4,096 keys and more.
    buckets: sizes to which changing dimensions are padded, so that one executable serves many: `"pow2"`,
    `{"multiple": 128}`, a list of sizes, or these by dimension, `{"tokens[1]": "pow2"}`. Results are as without; a
    graph of which that is not proven is compiled for each size, counted and named in `stats()`. See
    docs/changing_lengths.md.
    compile_ahead: how many threads of this process compile the other buckets while it serves those that it has.
    forbid_compile: whether what is not in the cache raises CompileForbidden, with the reason, instead of being
    compiled; `tpu_dynamo.forbid_compile()` does so for a block of code.
    xla_flags: flags of XLA and of its plugin by name, as {"xla_tpu_scoped_vmem_limit_kib": 65536}, for the executables
    of these graphs. XLA itself judges names and values, when it compiles; the OptionError has its words. A dict becomes
    pairs of names and text, sorted.
    check: every so many calls of a graph its results are compared with those of eager operators on the CPU; 0 never.
    What is at fault is logged once for each operator and counted in `stats()`; the results go on. See docs/numerics.md.
    """

    # Fields are part of an executable's identity unless they say why not.
    target: str = field(default="auto", metadata={"unkeyed": "the platform that it means is part instead"})
    fallback: Literal["error", "eager", "operator"] = field(
        default="error", metadata={"unkeyed": "changes no executable"}
    )
    dump_dir: Path | None = field(default=None, metadata={"unkeyed": "changes no executable"})
    transfer: Literal["shared", "copy"] = field(default="shared", metadata={"unkeyed": "changes no executable"})
    partitioner: Literal["min_cut", "default"] = "min_cut"
    activation_memory_budget: Annotated[float, Field(ge=0, le=1)] = 1.0
    freeze: bool = field(default=False, metadata={"unkeyed": "its effect is in the graph"})
    cache: bool | Literal["read_only"] = field(default=True, metadata={"unkeyed": "changes no executable"})
    cache_dir: Path | None = field(default=None, metadata={"unkeyed": "changes no executable"})
    autograd_cache: bool = field(default=True, metadata={"unkeyed": "changes no executable"})
    attention: AttentionForm = "auto"
    xla_flags: Annotated[XlaFlags, BeforeValidator(_pairs)] = field(
        default=(), metadata={"unkeyed": "changes no program; part of the compile environment of executables"}
    )
    buckets: Annotated[BucketTable, BeforeValidator(parse_buckets)] = field(
        default=(), metadata={"unkeyed": "its effect is in the graph"}
    )
    compile_ahead: NonNegativeInt = field(default=0, metadata={"unkeyed": "changes no executable"})
    forbid_compile: bool = field(default=False, metadata={"unkeyed": "changes no executable"})
    check: NonNegativeInt = field(default=0, metadata={"unkeyed": "changes no executable"})
    max_executables: PositiveInt = field(default=256, metadata={"unkeyed": "changes no executable"})

    @classmethod
    def parse(cls, given: Mapping[str, Any] | None, mode: str | None = None) -> Options:
        """Return the options that `torch.compile` was given.

        Modes are Inductor's bundles of settings that ask for speed: they change nothing here, and are logged once.
        Raises OptionError for an unknown key, naming the closest, for a value of the wrong kind, for an option of
        Inductor's, and for a mode that Inductor does not have either.
        """
        if mode not in (None, "default"):
            _note_mode(mode)
        known = [f.name for f in fields(cls)]
        for key in given or {}:
            if key not in known and is_inductors_option(str(key)):
                raise OptionError(
                    f"option {key!r} is Inductor's, and this backend has no such setting: leave it out; "
                    f"options here: {', '.join(known)}"
                )
            if key not in known:
                close = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)[0]
                raise OptionError(f"unknown option {key!r}; did you mean {close!r}? Options: {', '.join(known)}")
        if not given:  # most processes need no validator, which takes 50 ms to make
            return cls()
        try:
            return _validator().validate_python(dict(given))
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc']))}={e['input']!r}: {e['msg']}" for e in error.errors())
            raise OptionError(f"option {problems}") from None


@lru_cache(maxsize=16)  # so that each mode is logged once
def _note_mode(mode: str) -> None:
    if mode not in modes_of_inductor():
        raise OptionError(f"mode={mode!r} is no mode of torch.compile: {', '.join(sorted(modes_of_inductor()))}")
    log.warning("mode=%r asks Inductor for speed; XLA always does all that it can, and the mode changes nothing", mode)


@lru_cache(maxsize=1)
def _validator() -> TypeAdapter[Options]:
    return TypeAdapter(Options)
