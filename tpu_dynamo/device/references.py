"""Reference counts, which tell who else holds a buffer or a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from sys import getrefcount
from typing import Any


def reference_count(objects: Sequence[Any], index: int) -> int:
    """Return the number of references to an item of a list or tuple, those of this call among them.

    How many a call adds depends on the version of Python: compare the number only with the one that this function
    returns for an object whose holders are known. A call takes 0.1 us.
    """
    return getrefcount(objects[index])
