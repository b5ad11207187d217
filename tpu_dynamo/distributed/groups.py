"""Process groups as a program needs them: all groups that act at once, and the ranks that it spans."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tpu_dynamo_runtime import Span

# Ranks in the order of their group.
Group = tuple[int, ...]


class IrregularGroups(ValueError):
    """Groups of several kinds in one program, of which one rank cannot tell the others' groups."""

    def __init__(self, group: Group, size: int):
        super().__init__(
            f"the groups beside {list(group)} among {size} ranks are not known: each rank knows its own alone, and a "
            "program with groups of several kinds must say all of them\n"
            "  try: groups that are dimensions of one DeviceMesh over all ranks"
        )


def siblings(group: Group, size: int, known: Iterable[Sequence[Group]] = ()) -> list[Group]:
    """Return all groups that act when `group` does, `group` among them, of `size` ranks.

    known: divisions into groups that are known, as by the dimensions of meshes. Else they are the group moved by some
    number: so lie the dimensions of every mesh whose ranks are in their order. That all ranks find the same groups, and
    each its own among them, is compared before a program runs; then they are the ones that exist. Raises
    IrregularGroups where ranks are left over.
    """
    for division in known:
        if group in division:
            return list(division)
    found: list[Group] = []
    least, left = min(group), set(range(size))
    while left:
        moved = tuple(rank - least + min(left) for rank in group)
        if not left.issuperset(moved):
            raise IrregularGroups(group, size)
        left.difference_update(moved)
        found.append(moved)
    if group not in found:
        raise IrregularGroups(group, size)
    return found


def spanned(divisions: Iterable[Sequence[Group]], own: int) -> Span:
    """Return, in their order, the ranks that depend on each other by the groups of a program, `own` among them."""
    divisions = list(divisions)
    reached, waiting = {own}, [own]
    while waiting:
        rank = waiting.pop()
        for division in divisions:
            for group in division:
                if rank in group:
                    waiting += set(group) - reached
                    reached.update(group)
    return tuple(sorted(reached))


def as_text(division: Iterable[Group], span: Span) -> str:
    """Write groups as kernels of collectives read them: positions in `span`, as `0,1|2,3`."""
    position = {rank: i for i, rank in enumerate(span)}
    inside = [group for group in division if group[0] in position]
    return "|".join(",".join(str(position[rank]) for rank in group) for group in sorted(inside))
