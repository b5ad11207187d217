"""A manifest: which models to compile, with which inputs, for which targets; TOML, checked."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Tag,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from tpu_dynamo_runtime import TARGETS, TOPOLOGIES, find_topology

DType = Literal[
    "float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "complex64", "complex128",
    "int64", "int32", "int16", "int8", "uint8", "bool",
]  # fmt: skip
Mode = Literal["inference", "train", "step"]
_FUNCTION = re.compile(r"[\w.]+:[\w.]+")


def _wrong(kind: str, why: str) -> PydanticCustomError:
    # As a value: in the template itself, braces would be places.
    return PydanticCustomError(kind, "{why}", {"why": why})  # pyright: ignore[reportArgumentType]


class _Table(BaseModel):
    """A table of the manifest: no keys but those that it has, and each of them said what it may be."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _known(cls, given: Any) -> Any:
        unknown = [key for key in given if key not in cls.model_fields] if isinstance(given, Mapping) else []
        if unknown:
            raise PydanticCustomError(
                "unknown_keys", "unknown keys", {"keys": unknown, "known": list(cls.model_fields)}
            )
        return given


class DimTable(_Table):
    """The sizes that a dimension has, one after the other in one process.

    min, max: its bounds. buckets: the sizes to compile for; without them the powers of two between the bounds, and the
    bounds. dynamic: whether Dynamo may make the dimension symbolic, as it does when it sees a second size; false makes
    each size a case of its own, for processes that see one.
    """

    min: PositiveInt = 1
    max: PositiveInt | None = None
    buckets: list[PositiveInt] | None = Field(default=None, min_length=1)
    dynamic: bool = True

    @model_validator(mode="after")
    def _bounded(self) -> DimTable:
        if self.max is None and self.buckets is None:
            raise _wrong("sizes", "give `buckets`, or `max` with or without `min`")
        top = self.max or max(self.buckets or [self.min])
        outside = [size for size in self.buckets or () if not self.min <= size <= top]
        if self.min > top or outside:
            what = f"bucket {outside[0]}" if outside else f"min {self.min}"
            raise _wrong("sizes", f"{what} does not lie between min {self.min} and max {top}")
        return self

    @property
    def sizes(self) -> list[int]:
        """The sizes to compile for, each once, in the order given."""
        if self.buckets is not None or self.max is None:
            return list(dict.fromkeys(self.buckets or ()))
        powers = [1 << n for n in range(self.max.bit_length()) if self.min < 1 << n < self.max]
        return list(dict.fromkeys([self.min, *powers, self.max]))


def _kind_of_dim(value: Any) -> str:
    return "number" if isinstance(value, int) else "list" if isinstance(value, list) else "table"


Dim = Annotated[
    Annotated[PositiveInt, Tag("number")]
    | Annotated[Annotated[list[PositiveInt], Field(min_length=1)], Tag("list")]
    | Annotated[DimTable, Tag("table")],
    Discriminator(_kind_of_dim),
]


class TensorInput(_Table):
    """A tensor that the model takes: its shape in numbers and names of dimensions, and its dtype.

    range: lowest and highest value, of whole numbers; for `init = "real"`, else values do not matter. By default 0 and
    1, since a whole number is often an index. memory_format: `channels_last` of a tensor with four dimensions.
    """

    shape: list[NonNegativeInt | str]
    dtype: DType = "float32"
    requires_grad: bool = False
    range: tuple[int, int] = (0, 1)
    memory_format: Literal["contiguous", "channels_last"] = "contiguous"


def _kind_of_input(value: Any) -> str:
    return "tensor" if isinstance(value, dict | TensorInput) else "list" if isinstance(value, list) else "value"


Constant = bool | int | float | str
Input = Annotated[
    Annotated[TensorInput, Tag("tensor")]
    | Annotated[list[Annotated[TensorInput, Tag("tensor")]], Tag("list")]
    | Annotated[Constant, Tag("value")],
    Discriminator(_kind_of_input),
]


Inputs = Annotated[
    Annotated[list[Input], Tag("list")] | Annotated[dict[str, Input], Tag("table")],
    Discriminator(lambda value: "list" if isinstance(value, list) else "table"),
]


class Common(_Table):
    """What a model may say, and `[defaults]` for all that do not.

    targets: platforms of this machine such as `cpu`, topologies such as `v5e:2x2`. modes: `inference` (under
    torch.no_grad), `train` (forward and backward), `step` (tpu_dynamo.train_step). init: `meta` builds the model on the
    meta device, without memory; `random` as the factory builds it, its values unused; `real` also runs it, for code
    that looks at values. device: where the user's run has its tensors; by default `tpu` for TPUs and `cpu` else.
    module_mode: `train()` or `eval()` before the capture, by default as the mode says. timeout: seconds for a case.
    """

    targets: list[str] | None = Field(default=None, min_length=1)
    modes: list[Mode] | None = Field(default=None, min_length=1)
    init: Literal["meta", "random", "real"] | None = None
    dtype: DType | None = None
    device: Literal["cpu", "tpu"] | None = None
    options: dict[str, Any] | None = None
    autocast: Literal["bfloat16", "float16"] | None = None
    module_mode: Literal["by_mode", "train", "eval", "as_built"] | None = None
    dynamic: bool | None = None
    timeout: PositiveFloat | None = None

    @field_validator("targets")
    @classmethod
    def _exist(cls, value: list[str] | None) -> list[str] | None:
        for target in value or ():
            if target not in TARGETS and find_topology(target) is None:
                close = difflib.get_close_matches(target, (*TARGETS, *TOPOLOGIES), n=1)
                meant = f"; did you mean {close[0]!r}?" if close else "."
                known = f"{', '.join(TARGETS)}, and topologies such as v5e:2x2 (docs/tpu_without_a_tpu.md)"
                raise _wrong("target", f"unknown target {target!r}{meant} There are {known}")
        return value


class Model(Common):
    """One model: how it is built, and with what it is called.

    factory: `module:function` that gives the model, or (model, args) or (model, args, kwargs). args, kwargs: for the
    factory. inputs: what the model takes, a list by position or a table by name. dims: sizes by name. loss:
    `module:function` from what the model returns to what is differentiated. optimizer: `module:function` from the
    model's parameters to an optimizer, for the mode `step`. targets_of_loss: how many of the last inputs the loss
    takes besides, in that mode. command: a command of the user's own to run instead of a factory. cwd: the folder
    that it runs in, from the manifest's.
    """

    factory: str | None = None
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    inputs: Inputs | None = None
    dims: dict[str, Dim] = {}
    loss: str | None = None
    optimizer: str | None = None
    targets_of_loss: NonNegativeInt = 0
    max_grad_norm: PositiveFloat | None = None
    command: list[str] | None = Field(default=None, min_length=1)
    cwd: str = "."

    @field_validator("factory", "loss", "optimizer")
    @classmethod
    def _names_function(cls, value: str | None) -> str | None:
        if value is not None and not _FUNCTION.fullmatch(value):
            raise _wrong("function", f"{value!r} is not of the form module:function, as models:make_bert")
        return value

    @model_validator(mode="after")
    def _whole(self) -> Model:
        if (self.factory is None) == (self.command is None):
            raise _wrong("factory", "give a `factory`, as models:make_bert, or a `command`")
        unused = set(self.dims)
        for tensor in self.tensors:
            for size in tensor.shape:
                if isinstance(size, str) and size not in self.dims:
                    close = difflib.get_close_matches(size, self.dims, n=1)
                    meant = f"; did you mean {close[0]!r}?" if close else ""
                    known = f"it has {', '.join(self.dims)}" if self.dims else "it has none"
                    raise _wrong("dim", f"the dimension {size!r} is not in `dims`: {known}{meant}")
                unused.discard(str(size))
        if unused:
            raise _wrong("dim", f"no input has the dimension {sorted(unused)[0]!r} of `dims`")
        if "step" in (self.modes or ()) and self.optimizer is None:
            raise _wrong("optimizer", 'the mode "step" needs an `optimizer`, as models:make_adamw')
        return self

    @property
    def tensors(self) -> list[TensorInput]:
        """The inputs that are tensors."""
        given = list(self.inputs.values()) if isinstance(self.inputs, dict) else self.inputs or []
        flat = [one for each in given for one in (each if isinstance(each, list) else [each])]
        return [one for one in flat if isinstance(one, TensorInput)]


class Manifest(_Table):
    """A whole manifest: `schema = 1`, `[defaults]` and a table `[model.NAME]` for each model."""

    schema_: Literal[1] = Field(alias="schema")
    defaults: Common = Common()
    model: dict[str, Model] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _known(cls, given: Any) -> Any:
        known = ["schema", "defaults", "model"]
        unknown = [key for key in given if key not in known] if isinstance(given, Mapping) else []
        if unknown:
            raise PydanticCustomError("unknown_keys", "unknown keys", {"keys": unknown, "known": known})
        return given


MODES: tuple[str, ...] = get_args(Mode)


def json_schema() -> dict[str, Any]:
    """The JSON schema of manifests, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Manifest.model_json_schema(by_alias=True)}


def defaults_applied(manifest: Manifest, model: Model) -> Common:
    """What holds for a model: its own word, else that of `[defaults]`; options are put together."""
    own = {name: getattr(model, name) for name in Common.model_fields}
    both = {name: value if value is not None else getattr(manifest.defaults, name) for name, value in own.items()}
    both["options"] = {**(manifest.defaults.options or {}), **(model.options or {})}
    return Common(**both)


def folder_of(path: Path) -> str:
    """The folder that a manifest's modules are looked for in first."""
    return str(path.resolve().parent)
