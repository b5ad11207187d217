"""The collectives of an HLO module: which replicas exchange how many bytes, how often, and for which source line."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from .hlo import Computation, Instruction, Module, parse_hlo
from .hlo_loops import trip_count
from .hlo_places import SourceLine, place_of

KINDS = (
    "all-gather", "all-reduce", "all-to-all", "collective-broadcast", "collective-permute", "ragged-all-to-all",
    "reduce-scatter",
)  # fmt: skip
_INSIDE = ("to_apply", "calls", "called_computations")

_REPLICAS = re.compile(r"\breplica_count=(\d+)")
_LISTED = re.compile(r"(?:replica_groups|source_target_pairs)=\{((?:\{[\d,]*\},?)*)\}")
_IOTA = re.compile(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_MESH = re.compile(r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\(([^)]*)\))? *\{([^}]*)\}")
_AXIS = re.compile(r"'?([\w.\-]+)'?=(\d+)")
_AXIS_USED = re.compile(r"'?([\w.\-]+)'?(?::\((\d+)\)(\d+))?")

Group = tuple[int, ...]


@dataclass(frozen=True)
class Collective:
    """One collective of a program.

    kind: XLA's opcode. groups: the replicas that act together, or the source and target of each pair of a
    collective-permute. nbytes: of the whole tensor that a replica gathers, reduces, scatters or sends. times: how often
    it runs in one run of the program. place: the source line that it belongs to. asynchronous: True if XLA lets it run
    beside computations.
    """

    kind: str
    groups: tuple[Group, ...]
    nbytes: int
    times: int
    place: SourceLine | None
    asynchronous: bool


def collectives_of(hlo: str) -> list[Collective]:
    """Find the collectives of a module, those in loops as often as the loops run, of a conditional the dearest branch.

    A reduce-scatter is one also where libtpu writes it as a fusion of an all-reduce and a slice. What one instruction
    exchanges of several tensors is several collectives.
    """
    module = parse_hlo(hlo)
    replicas = int(found[1]) if (found := _REPLICAS.search(hlo)) is not None else 1
    return _Search(module, replicas).within(module.entry, None, 1, set(), False, False)


class _Search:
    def __init__(self, module: Module, replicas: int):
        self._module = module
        self._replicas = replicas

    def within(
        self,
        computation: Computation,
        owner: SourceLine | None,
        times: int,
        chains: set[tuple[str, str]],
        fused: bool,
        asynchronous: bool,
    ) -> list[Collective]:
        """List the collectives of a computation that runs so often.

        owner: the line of its caller. chains: those that were counted: libtpu writes an asynchronous collective as a
        chain of fusions, each of which shows it.
        """
        found: list[Collective] = []
        for instruction in computation.instructions.values():
            opcode = instruction.opcode
            kind = opcode.removesuffix("-start")
            if kind in KINDS:
                chain = re.search(r'chain_id="(\d+)"', instruction.attributes)
                if chain is not None and (chain[1], kind) in chains:
                    continue
                if chain is not None:
                    chains.add((chain[1], kind))
                beside = asynchronous or chain is not None or kind != opcode
                found += self._collective(computation, instruction, kind, owner, times, fused, beside)
            elif opcode == "while":
                runs = times * (trip_count(self._module, computation, instruction) or 1)
                for name in instruction.called("body"):
                    found += self._called(name, computation, instruction, owner, runs, set(), False, False)
            elif opcode == "conditional":
                names = instruction.called("branch_computations", "true_computation", "false_computation")
                branches = [
                    self._called(name, computation, instruction, owner, times, chains, False, False) for name in names
                ]
                found += max(branches, key=lambda branch: sum(each.nbytes * each.times for each in branch))
            elif opcode in ("fusion", "call", "async-start"):
                inside, beside = opcode == "fusion", asynchronous or opcode == "async-start"
                for name in instruction.called(*_INSIDE):
                    found += self._called(name, computation, instruction, owner, times, chains, inside, beside)
        return found

    def _called(
        self,
        name: str,
        caller: Computation,
        instruction: Instruction,
        owner: SourceLine | None,
        times: int,
        chains: set[tuple[str, str]],
        fused: bool,
        asynchronous: bool,
    ) -> list[Collective]:
        place = place_of(self._module, caller, instruction) or owner
        return self.within(self._module.computations[name], place, times, chains, fused, asynchronous)

    def _collective(
        self,
        computation: Computation,
        instruction: Instruction,
        kind: str,
        owner: SourceLine | None,
        times: int,
        fused: bool,
        asynchronous: bool,
    ) -> Iterable[Collective]:
        if kind == "all-reduce" and fused and _is_sliced(computation, instruction):
            kind = "reduce-scatter"
        groups = groups_of(instruction.attributes, self._replicas)
        operands = [computation.instructions[name] for name in instruction.operands]
        if kind == "collective-permute":
            operands = operands[:1]  # libtpu's have buffers and offsets behind
        for operand in operands:
            nbytes = sum(array.nbytes for array in operand.arrays)
            place = instruction.source_line if len(operands) == 1 else None
            place = place or place_of(self._module, computation, operand) or owner
            whole = nbytes * len(groups[0]) if kind == "all-gather" else nbytes
            yield Collective(kind, groups, whole, times, place, asynchronous)


def _is_sliced(computation: Computation, instruction: Instruction) -> bool:
    users = computation.users.get(instruction.name, [])
    return bool(users) and all(user.opcode == "dynamic-slice" for user in users)


def groups_of(attributes: str, replicas: int) -> tuple[Group, ...]:
    """Read the replica groups, or the pairs of source and target, in an instruction's attributes.

    They are written one by one, as a range that is reshaped, transposed and reshaped again, or as axes of a mesh. No
    groups are one of all replicas. Raises ValueError for another spelling. Source: XLA's `replica_group_list`.
    """
    if (match := _LISTED.search(attributes)) is not None:
        listed = tuple(tuple(map(int, each.split(","))) for each in re.findall(r"\{([\d,]+)\}", match[1]))
        return listed or (tuple(range(replicas)),)
    if (match := _IOTA.search(attributes)) is not None:
        shape, sizes = _numbers(match[1]), _numbers(match[2])
        order = _numbers(match[3]) if match[3] else list(range(len(sizes)))
        flat = _transposed(sizes, order)
        return _rows(flat, shape[-1])
    if (match := _MESH.search(attributes)) is not None:
        return _along_axes(match[1], match[3])
    if "replica_groups" not in attributes:
        return (tuple(range(replicas)),)
    raise ValueError(f"replica groups in a spelling that is not known: {attributes[:200]}")


def _along_axes(mesh: str, used: str) -> tuple[Group, ...]:
    """Return the groups along some axes of a mesh. used: axes, or parts of them as `'x':(2)4`: 4 after the first 2."""
    wanted: dict[str, list[tuple[int, int]]] = {}
    for name, before, size in _AXIS_USED.findall(used):
        wanted.setdefault(name, []).append((int(before), int(size)) if size else (1, 0))
    sizes: list[int] = []
    inside: list[bool] = []
    for name, size in _AXIS.findall(mesh):
        left, done = int(size), 1
        for before, part in sorted(wanted.get(name, [])):
            outer = before // done
            sizes += [outer, part or left // outer]
            inside += [False, True]
            done, left = before * sizes[-1], left // (outer * sizes[-1])
        sizes.append(left)
        inside.append(False)
    order = [i for i, within in enumerate(inside) if not within] + [i for i, within in enumerate(inside) if within]
    return _rows(
        _transposed(sizes, order), math.prod(size for size, within in zip(sizes, inside, strict=True) if within)
    )


def _transposed(sizes: list[int], order: list[int]) -> list[int]:
    """Return the numbers from 0 on, as an array of these sizes whose dimensions come in another order."""
    steps = [math.prod(sizes[i + 1 :]) for i in range(len(sizes))]
    places = itertools.product(*(range(sizes[i]) for i in order))
    return [sum(steps[i] * at for i, at in zip(order, place, strict=True)) for place in places]


def _rows(flat: list[int], length: int) -> tuple[Group, ...]:
    return tuple(tuple(flat[i : i + length]) for i in range(0, len(flat), length))


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]
