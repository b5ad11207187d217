"""Groups of the hosts' processes beside the device's: for barriers and for what only two ranks know of."""

from __future__ import annotations

from typing import Any

from ._torch_compat import group_of, host_backend

# By the names of process groups.
_groups: dict[str, Any] = {}


def open_host_group(name: str, store: Any, rank: int, size: int, timeout: Any) -> None:
    """Join the processes of a group by gloo, pairwise when they first speak to each other."""
    _groups[name] = host_backend(store, rank, size, timeout)


def host_group(group: Any) -> Any:
    """Return the gloo group of a process group's processes."""
    return _groups[group_of(group).group_name]
