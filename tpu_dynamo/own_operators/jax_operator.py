"""An operator of PyTorch that a JAX function computes: its kernels, and the operators that are derived from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch

from tpu_dynamo_lowering import (
    Batched,
    GivenGradient,
    Gradient,
    How,
    JaxFunction,
    JaxSignature,
    fake_results,
    register_lowering,
)

from .._torch_compat import OpOverload, destroy_library, pytree
from .host_calls import HostCalls
from .operator_schema import parameters_of

# Libraries of the operators that were defined, by name: a kernel is registered as long as its library lives.
_libraries: dict[str, torch.library.Library] = {}


class JaxOperator:
    """An operator that a JAX function computes: on the CPU, on the device, and in graphs.

    overload: what is called. function: takes the arguments of the schema; keyword-only ones by name.
    """

    def __init__(self, name: str, schema: str, function: Callable[..., Any]):
        self._name = name
        self._function = function
        namespace, _, operator = name.partition("::")
        if (earlier := _libraries.pop(name, None)) is not None:
            destroy_library(earlier)
        self._library = torch.library.Library(namespace, "FRAGMENT")
        self._library.define(operator + schema, tags=torch.Tag.pt2_compliant_tag)
        _libraries[name] = self._library
        self.overload: OpOverload = getattr(getattr(torch.ops, namespace), operator).default
        self._schema = self.overload._schema
        self._parameters = parameters_of(schema)
        arguments = self._schema.arguments
        if not any("Tensor" in str(argument.type) for argument in arguments):
            raise TypeError(f"{name}: an operator without a tensor among its arguments is on no device")
        by_keyword = frozenset(argument.name for argument in arguments if argument.kwarg_only)
        self._signature = JaxSignature(tuple(argument.name for argument in arguments), by_keyword)
        self._whole = JaxFunction(function)
        register_lowering(self.overload, How.KERNEL, self._whole, signed=self._call)
        self._library.impl(operator, torch.compiler.disable(HostCalls(self.overload).__call__), "CPU")
        torch.library.register_fake(name, self._fake, lib=self._library)
        torch.library.register_vmap(name, self._over_batch, lib=self._library)

    def _call(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function; where parameters are compared with the schema, which is its own, any will do."""
        return self._whole(*args, **kwargs)

    def _derived(self, what: str) -> str:
        """Return the name of an operator that is made of this one, as `mylib::_rope_gradient`."""
        namespace, _, operator = self._name.partition("::")
        return f"{namespace}::_{operator}_{what}"

    @property
    def _returns(self) -> str:
        """The types of the results, as in a schema."""
        kinds = [str(result.type).replace("List[Tensor]", "Tensor[]") for result in self._schema.returns]
        return kinds[0] if len(kinds) == 1 else f"({', '.join(kinds)})"

    def _fake(self, *args: Any, **kwargs: Any) -> Any:
        return self._packed(fake_results(self._name, self._whole, *self._bound(args, kwargs)))

    def _packed(self, results: Sequence[Any]) -> Any:
        """Return results that lie side by side as the schema has them."""
        if len(self._schema.returns) == 1 and "[]" in self._returns:
            return list(results)
        if len(results) != len(self._schema.returns):
            raise TypeError(f"{self._name} has {len(results)} results, and its schema says {self._returns}")
        return results[0] if len(results) == 1 else tuple(results)

    def _bound(self, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Return a call's arguments with defaults, as the function takes them."""
        positional, named = [], {}
        for position, argument in enumerate(self._schema.arguments):
            given = args[position] if position < len(args) else kwargs.get(argument.name, argument.default_value)
            if argument.kwarg_only:
                named[argument.name] = given
            else:
                positional.append(given)
        return positional, named

    def differentiate(self, rule: Callable[..., Any] | None = None) -> None:
        """Give the operator gradients: by a rule, or by `jax.vjp`. Their operator is defined when it is asked for."""
        self._rule = rule
        torch.library.register_autograd(self._name, self._backward, setup_context=self._save, lib=self._library)

    @cached_property
    def gradient(self) -> JaxOperator:
        """The operator that computes the gradients of this one's tensors."""
        if self._rule is not None:
            function: Any = GivenGradient(self._rule, self._signature)
            more = "Tensor[] tpu_gradients, Tensor[] tpu_results, SymInt[] tpu_wanted"
        else:
            function = Gradient(self._function, self._signature)
            more = "Tensor[] tpu_gradients, SymInt[] tpu_wanted"
        made = JaxOperator(self._derived("gradient"), f"({self._parameters}, {more}) -> Tensor[]", function)
        made.differentiate()
        return made

    @cached_property
    def _batched(self) -> JaxOperator:
        """The operator that computes this one over a batch."""
        schema = f"({self._parameters}, SymInt[] tpu_batched, SymInt tpu_size) -> {self._returns}"
        made = JaxOperator(self._derived("batched"), schema, Batched(self._function, self._signature))
        made.differentiate()
        return made

    def _save(self, ctx: Any, inputs: Sequence[Any], keyword_only_inputs: Any = None, output: Any = None) -> None:
        positional, named = self._bound(inputs, keyword_only_inputs or {})
        values = [*positional, *named.values()]
        leaves, ctx.structure = pytree.tree_flatten(values)
        results = [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, torch.Tensor)]
        ctx.moving = [leaf.is_floating_point() or leaf.is_complex() for leaf in results]
        kept = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        ctx.tensors = len(kept)
        ctx.leaves = [None if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
        ctx.places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
        ctx.save_for_backward(*kept, *(results if self._rule is not None else ()))

    def _backward(self, ctx: Any, *gradients: Any) -> Any:
        saved = ctx.saved_tensors
        leaves = list(ctx.leaves)
        for place, tensor in zip(ctx.places, saved[: ctx.tensors], strict=True):
            leaves[place] = tensor
        arguments = pytree.tree_unflatten(leaves, ctx.structure)
        given = pytree.tree_leaves(list(gradients), is_leaf=lambda each: each is None)
        of_results = [each for each, moving in zip(given, ctx.moving, strict=True) if moving]
        passed = len(ctx.needs_input_grad)  # without arguments at the end that have their defaults
        flags: list[bool] = []
        for position, argument in enumerate(arguments):
            needed = ctx.needs_input_grad[position] if position < passed else False
            each = len(pytree.tree_leaves(argument))
            flags += needed if isinstance(needed, list | tuple) else [needed] * each
        asked = dict(zip(ctx.places, range(ctx.tensors), strict=True))
        wanted = [place for place in ctx.places if flags[place] and _moves(leaves[place])]
        more = [list(saved[ctx.tensors :])] if self._rule is not None else []
        found = self.gradient.overload(*arguments, of_results, *more, [asked[place] for place in wanted])
        by_place = dict(zip(wanted, found, strict=True))
        laid_out = pytree.tree_unflatten([by_place.get(i) for i in range(len(leaves))], ctx.structure)
        arguments = list(zip(self._schema.arguments, laid_out, strict=True))[:passed]
        return tuple(each if "Tensor" in str(argument.type) else None for argument, each in arguments)

    def _over_batch(self, info: Any, in_dims: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
        positional, named = self._bound(args, kwargs)
        arguments = [*positional, *named.values()]
        dims = [*in_dims, *([None] * (len(arguments) - len(in_dims)))]
        tensors: list[Any] = []

        def front(argument: Any, dim: Any) -> Any:
            if isinstance(argument, list | tuple):
                inner = dim if isinstance(dim, list | tuple) else [dim] * len(argument)
                return [front(each, at) for each, at in zip(argument, inner, strict=True)]
            if not isinstance(argument, torch.Tensor):
                return argument
            tensors.append(dim)
            return argument if dim is None else argument.movedim(dim, 0)

        given = [front(argument, dim) for argument, dim in zip(arguments, dims, strict=True)]
        batched = [i for i, dim in enumerate(tensors) if dim is not None]
        results = self._batched.overload(*given, batched, info.batch_size)
        return results, pytree.tree_map(lambda each: 0, results)


def _moves(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()
