"""The tables of a manifest for shapes: dimensions and inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, NonNegativeInt, PositiveInt, Tag, model_validator
from pydantic_core import PydanticCustomError

from ..buckets import Buckets

DType = Literal[
    "float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "complex64", "complex128",
    "int64", "int32", "int16", "int8", "uint8", "bool",
]  # fmt: skip


def wrong(kind: str, why: str) -> PydanticCustomError:
    """Return an error for a validator to raise, with `why` as its message."""
    # As a value: in the template itself, braces would be places.
    return PydanticCustomError(kind, "{why}", {"why": why})  # pyright: ignore[reportArgumentType]


class Table(BaseModel):
    """A table of the manifest; keys that are no field are errors, which list the fields."""

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


class DimTable(Table):
    """The sizes of a dimension, which it has one after the other in one process.

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
            raise wrong("sizes", "give `buckets`, or `max` with or without `min`")
        top = self.max or max(self.buckets or [self.min])
        outside = [size for size in self.buckets or () if not self.min <= size <= top]
        if self.min > top or outside:
            what = f"bucket {outside[0]}" if outside else f"min {self.min}"
            raise wrong("sizes", f"{what} does not lie between min {self.min} and max {top}")
        return self

    @property
    def sizes(self) -> list[int]:
        """The sizes to compile for, each once, in the order given."""
        if self.buckets is not None or self.max is None:
            return list(dict.fromkeys(self.buckets or ()))
        powers = [1 << n for n in range(self.max.bit_length()) if self.min < 1 << n < self.max]
        return list(dict.fromkeys([self.min, *powers, self.max]))

    @property
    def bounds(self) -> dict[str, int]:
        """The bounds for `mark_dynamic`, none where the dimension has no highest size."""
        return {} if self.max is None else {"min": max(self.min, 2), "max": self.max}

    def padded_to(self, buckets: Buckets) -> list[int]:
        """Return the buckets into which its sizes from 2 on fall: 1 is a number for Dynamo, and never padded."""
        if self.buckets is None and self.max is not None:
            return buckets.between(max(self.min, 2), self.max)
        return sorted({buckets.of(size, self.max) for size in self.sizes if size > 1})


def _kind_of_dim(value: Any) -> str:
    return "number" if isinstance(value, int) else "list" if isinstance(value, list) else "table"


Dim = Annotated[
    Annotated[PositiveInt, Tag("number")]
    | Annotated[Annotated[list[PositiveInt], Field(min_length=1)], Tag("list")]
    | Annotated[DimTable, Tag("table")],
    Discriminator(_kind_of_dim),
]


class TensorInput(Table):
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
