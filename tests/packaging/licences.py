"""Writes docs/licences.md: what an installation consists of, with versions and licences, as the packages state them.

python -m tests.packaging.licences
"""

from __future__ import annotations

from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from .requirements import ROOT, requirements

PAGE = ROOT / "docs" / "licences.md"

_HEAD = """\
# What an installation consists of

Written by `python -m tests.packaging.licences` from the metadata of what is installed beside `tpu-dynamo[tpu,remote]`: a
package's licence expression, else its classifiers, else the first line of its licence field. torch's wheel of this list
is the one for CPUs; those for CUDA depend on NVIDIA's packages, which have a licence of their own. torch-mlir's wheel
states none; its [sources](https://github.com/llvm/torch-mlir/blob/main/LICENSE) are Apache-2.0 WITH LLVM-exception.

| package | version | licence | needed by |
| --- | --- | --- | --- |
"""


def licence(package: metadata.Distribution) -> str:
    """Return a package's licence in its own words."""
    told = package.metadata
    classifiers = [c for c in told.get_all("Classifier") or () if c.startswith("License ::")]
    names = [c.rpartition(" :: ")[2] for c in classifiers if not c.endswith("OSI Approved")]
    return (
        told["License-Expression"]
        or ", ".join(names)
        or (told["License"] or "").strip().partition("\n")[0]
        or "not stated"
    )


def installed() -> dict[str, tuple[metadata.Distribution, set[str]]]:
    """Return the packages that an installation has, by name, each with what needs it."""
    found: dict[str, tuple[metadata.Distribution, set[str]]] = {}
    waiting = [(requirement, "tpu-dynamo") for requirement in requirements()]
    while waiting:
        requirement, by = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in found:
            found[name][1].add(by)
            continue
        package = metadata.distribution(name)
        found[name] = package, {by}
        needs = [Requirement(text) for text in package.requires or ()]
        environments = [{"extra": extra} for extra in (*requirement.extras, "")]
        waiting += [(r, name) for r in needs if not r.marker or any(r.marker.evaluate(e) for e in environments)]
    return dict(sorted(found.items()))


def page() -> str:
    """Return docs/licences.md."""
    rows = [
        f"| {name} | {package.version.partition('+')[0]} | {licence(package)} | {', '.join(sorted(by))} |"
        for name, (package, by) in installed().items()
    ]
    return _HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
