"""Calls of operators that write to their arguments, in functional graphs: on copies, and by lowerings from outside.

AOTAutograd makes such a call one of `auto_functionalized_v2`: it takes the tensors whose memory is written, says which
views of them the operator gets, and gives the operator's results and these tensors' new values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from torch.fx import Node

from .. import outside
from .._torch_compat import OpOverload
from ._torch_compat import ON_COPIES, copied_arguments, is_out


def written_operator(node: Node) -> OpOverload | None:
    """Return the operator whose call on copies of its arguments a node is, None for any other node."""
    operator = node.args[0] if node.target in ON_COPIES and node.args else None
    return operator if isinstance(operator, OpOverload) else None


def lowering_on_copies(node: Node) -> outside.OutsideLowering | None:
    """Return the lowering of an operator's call on copies, by one from outside; None without one."""
    operator = written_operator(node)
    found = outside.find(operator) if operator is not None else None
    if found is None:
        return None
    return replace(found, function=partial(_on_copies, found.function, base_offsets(node)))


def base_offsets(node: Node) -> tuple[int | None, ...]:
    """Return where the tensors that a call copies begin in their storages, from where their views are counted."""
    bases: Any = node.kwargs.get("_all_bases", ()) if node.target in ON_COPIES else ()
    return tuple(map(_offset, bases))


def _offset(base: Any) -> int | None:
    if not isinstance(base, Node):
        return 0
    return base.meta["storage_offset"] if "storage_offset" in base.meta else int(base.meta["val"].storage_offset())


def _on_copies(
    function: Callable[..., Any], offsets: Sequence[int | None], operator: OpOverload, /, **kwargs: Any
) -> Any:
    """Compute a call on copies, as `auto_functionalized_v2` does, with a lowering in the place of the operator."""
    if None in offsets:
        raise NotImplementedError("it writes to a view of an input, and where that input begins is not known")
    named, copies = copied_arguments(operator, kwargs, [offset or 0 for offset in offsets])
    results = call_writing(operator, function, named)
    if is_out(operator):
        return results[0] if len(results) == 1 else tuple(results)
    return (*(results or [None]), *copies)


def writing_lowering(operator: OpOverload) -> Callable[..., tuple[Any, ...]] | None:
    """Return the function of named arguments that does what an operator from outside does: it writes to them.

    It returns all results of the operator. None for an operator that writes to nothing, or has no lowering.
    """
    found = outside.find(operator) if operator._schema.is_mutable else None
    return None if found is None else lambda **named: tuple(call_writing(operator, found.function, named))


def call_writing(operator: OpOverload, function: Callable[..., Any], named: dict[str, Any]) -> list[Any]:
    """Call a function that writes to the tensors that an operator writes to; return all results of the operator.

    named: all of the operator's arguments. Raises NotImplementedError for other results than the schema says.
    """
    arguments = operator._schema.arguments
    positional = [named[argument.name] for argument in arguments if not argument.kwarg_only]
    by_keyword = {argument.name: named[argument.name] for argument in arguments if argument.kwarg_only}
    found = function(*positional, **by_keyword)
    values = list(found) if isinstance(found, tuple | list) else [] if found is None else [found]
    returned = _returned_arguments(operator)
    if len(values) == len(returned):
        values = [value for value, name in zip(values, returned, strict=True) if name is None]
    if len(values) != returned.count(None):
        raise NotImplementedError(f"its lowering returns {len(values)} results, and the operator {len(returned)}")
    given = iter(values)
    return [next(given) if name is None else named[name] for name in returned]


def _returned_arguments(operator: OpOverload) -> list[str | None]:
    """Return for each result of an operator the name of the argument that it is, None for a new tensor."""
    schema = operator._schema
    found: list[str | None] = []
    for result in schema.returns:
        alias = result.alias_info
        infos = {argument.name: argument.alias_info for argument in schema.arguments if argument.alias_info is not None}
        same = [name for name, info in infos.items() if alias is not None and info.before_set == alias.before_set]
        found.append(same[0] if same else None)
    return found
