"""Writes the table of docs/changing_lengths.md, of the rules that prove padding: `python -m tests.docs.bucket_rules`."""

from __future__ import annotations

import inspect
import re
import sys
from collections import defaultdict
from pathlib import Path

from tpu_dynamo_lowering.buckets import pad_sizes  # noqa: F401  (fills the table)
from tpu_dynamo_lowering.buckets.rules.table import RULES, Rule

PAGE = Path(__file__).parents[2] / "docs" / "changing_lengths.md"
HEAD = "| operators | with padding | refused where |\n| --- | --- | --- |\n"
_REFUSAL = re.compile(r'(?:NotProven\(|require_whole\([^"]*)"([^"]+)"')


def rows() -> str:
    """Return the rows, a rule each, in the order of the modules' names."""
    operators: dict[Rule, list[str]] = defaultdict(list)
    for overload, rule in RULES.items():
        name = str(overload).removeprefix("aten.").removesuffix(".default")
        operators[rule].append(name)
    found = []
    for rule in sorted(operators, key=lambda rule: (rule.__module__, inspect.getsourcelines(rule)[1])):
        refusals = dict.fromkeys(_REFUSAL.findall(inspect.getsource(rule)))
        said = (inspect.getdoc(rule) or "").partition("\n")[0]
        names = " ".join(f"`{name}`" for name in operators[rule])
        found.append(f"| {names} | {said} | {'; '.join(refusals)} |\n")
    return "".join(found)


def written() -> str:
    """Read the rows that the page has."""
    return PAGE.read_text(encoding="utf-8").partition(HEAD)[2]


def main() -> None:
    before, head, _ = PAGE.read_text(encoding="utf-8").partition(HEAD)
    if not head:
        sys.exit(f"{PAGE} has no table")
    PAGE.write_text(before + head + rows(), encoding="utf-8")


if __name__ == "__main__":
    main()
