"""A manifest's tables: which models to compile, with which inputs, for which targets, with the checks of each."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, field_validator, model_validator
from pydantic_core import PydanticCustomError

from tpu_dynamo_runtime import TARGETS, TOPOLOGIES, find_topology

from ..buckets import parse_buckets
from .shapes import Dim, DType, Inputs, Table, TensorInput, wrong

Mode = Literal["inference", "train", "step"]
_FUNCTION = re.compile(r"[\w.]+:[\w.]+")


class Common(Table):
    """Keys of a model that `[defaults]` may have too, for all models that lack them.

    targets: platforms of this machine such as `cpu`, topologies such as `v5e:2x2`. modes: `inference` (under
    torch.no_grad), `train` (forward and backward), `step` (tpu_dynamo.train_step). init: `meta` builds the model on the
    meta device, without memory; `random` as the factory builds it, its values unused; `real` also runs it, for code
    that looks at values. device: where the user's run has its tensors; by default `tpu` for TPUs and `cpu` else.
    mesh: the sizes of a DeviceMesh over all chips of the targets by the names of its dimensions; the factory takes the
    mesh first. module_mode: `train()` or `eval()` before the capture, by default as the mode needs it. timeout: seconds
    for a case.
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
    mesh: dict[str, PositiveInt] | None = Field(default=None, min_length=1)
    timeout: PositiveFloat | None = None

    @field_validator("targets")
    @classmethod
    def _exist(cls, value: list[str] | None) -> list[str] | None:
        for target in value or ():
            if target not in TARGETS and find_topology(target) is None:
                close = difflib.get_close_matches(target, (*TARGETS, *TOPOLOGIES), n=1)
                meant = f"; did you mean {close[0]!r}?" if close else "."
                known = f"{', '.join(TARGETS)}, and topologies such as v5e:2x2 (docs/tpu_without_a_tpu.md)"
                raise wrong("target", f"unknown target {target!r}{meant} There are {known}")
        return value

    @field_validator("options")
    @classmethod
    def _buckets_are_sizes(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value and "buckets" in value:
            try:
                parse_buckets(value["buckets"])
            except ValueError as error:
                raise wrong("buckets", str(error)) from None
        return value


class Model(Common):
    """One model: how it is built, and with what it is called.

    factory: `module:function` that returns the model, or (model, args) or (model, args, kwargs). args, kwargs: for the
    factory. inputs: the model's, a list by position or a table by name. dims: sizes by name. loss:
    `module:function` from what the model returns to what is differentiated. optimizer: `module:function` from the
    model's parameters to an optimizer, for the mode `step`. targets_of_loss: how many of the last inputs the loss
    takes besides, in that mode. command: a command of the user's own to run instead of a factory. cwd: the folder
    that it runs in, from the manifest's.
    """

    factory: str | None = None
    args: list[Any] = Field(default_factory=list)
    kwargs: dict[str, Any] = Field(default_factory=dict)
    inputs: Inputs | None = None
    dims: dict[str, Dim] = Field(default_factory=dict)
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
            raise wrong("function", f"{value!r} is not of the form module:function, as models:make_bert")
        return value

    @model_validator(mode="after")
    def _whole(self) -> Model:
        if (self.factory is None) == (self.command is None):
            raise wrong("factory", "give a `factory`, as models:make_bert, or a `command`")
        unused = set(self.dims)
        for tensor in self.tensors:
            for size in tensor.shape:
                if isinstance(size, str) and size not in self.dims:
                    close = difflib.get_close_matches(size, self.dims, n=1)
                    meant = f"; did you mean {close[0]!r}?" if close else ""
                    known = f"it has {', '.join(self.dims)}" if self.dims else "it has none"
                    raise wrong("dim", f"the dimension {size!r} is not in `dims`: {known}{meant}")
                unused.discard(str(size))
        if unused:
            raise wrong("dim", f"no input has the dimension {sorted(unused)[0]!r} of `dims`")
        if "step" in (self.modes or ()) and self.optimizer is None:
            raise wrong("optimizer", 'the mode "step" needs an `optimizer`, as models:make_adamw')
        return self

    @property
    def tensors(self) -> list[TensorInput]:
        """The inputs that are tensors."""
        given = list(self.inputs.values()) if isinstance(self.inputs, dict) else self.inputs or []
        flat = [one for each in given for one in (each if isinstance(each, list) else [each])]
        return [one for one in flat if isinstance(one, TensorInput)]


class Manifest(Table):
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
    """Return the JSON schema of manifests, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Manifest.model_json_schema(by_alias=True)}


def defaults_applied(manifest: Manifest, model: Model) -> Common:
    """Return a model's common keys: its own, else those of `[defaults]`; `options` are merged."""
    own = {name: getattr(model, name) for name in Common.model_fields}
    both = {name: value if value is not None else getattr(manifest.defaults, name) for name, value in own.items()}
    both["options"] = {**(manifest.defaults.options or {}), **(model.options or {})}
    return Common(**both)


def folder_of(path: Path) -> str:
    """Return the folder in which a manifest's modules are looked for first: its own."""
    return str(path.resolve().parent)
