"""Names of operations replaced by those of an equal graph elsewhere."""

from __future__ import annotations

from tpu_dynamo_runtime import DoesNotFit
from tpu_dynamo_runtime.hlo_dump import Assignment
from tpu_dynamo_runtime.renaming import Renaming

BEFORE = (
    "/old/m.py:3/self.a/aten.mm.default",
    "",
    "/old/m.py:3/self.a/aten.relu.default",
    "/old/m.py:9/aten.mm.default",
)
AFTER = (
    "/new/m.py:5/self.b/aten.mm.default",
    "",
    "/new/m.py:6/self.b/aten.relu.default",
    "/new/m.py:12/aten.mm.default",
)


def test_names_of_hlo_become_those_of_the_other_graph():
    renaming = Renaming(BEFORE, AFTER)
    assert renaming.name("/old/m.py:3/self.a/aten.mm.default/dot_general") == (
        "/new/m.py:5/self.b/aten.mm.default/dot_general"
    )
    assert renaming.name("/old/m.py:3/self.a/aten.relu.default") == "/new/m.py:6/self.b/aten.relu.default"
    assert renaming.name("/old/m.py:9/aten.mm.default") == "/new/m.py:12/aten.mm.default"
    assert not renaming.ambiguous
    assert renaming.name("/other.py:3/aten.mm.default") == "/other.py:3/aten.mm.default"
    assert renaming.name("jit(f)/mul") == "jit(f)/mul"
    text = 'add(%a, %b), metadata={op_name="/old/m.py:3/self.a/aten.mm.default" source_line=3}, x={op_name="y"}'
    assert renaming.text(text) == text.replace("/old/m.py:3/self.a", "/new/m.py:5/self.b")


def test_what_lowering_made_of_an_operation_is_found_by_its_module_and_line():
    renaming = Renaming(BEFORE, AFTER)
    assert renaming.name("/old/m.py:9/aten.rsqrt.default") == "/new/m.py:12/aten.rsqrt.default"
    assert renaming.name("/old/m.py:9/self.c/aten.rsqrt.default") == "/new/m.py:12/aten.rsqrt.default"
    assert not renaming.ambiguous
    # Of either: the first, and said.
    assert renaming.name("/old/m.py:3/self.a/aten.rsqrt.default") == "/new/m.py:5/self.b/aten.rsqrt.default"
    assert renaming.ambiguous == {("/new/m.py", 5)}


def test_lists_that_say_nothing_of_each_other_change_nothing():
    name = "/old/m.py:9/aten.mm.default"
    for before in (None, (), BEFORE[:2], AFTER):
        assert Renaming(before, AFTER).name(name) == name


def test_quotes_in_paths_are_escaped_as_xla_does():
    renaming = Renaming(['/a "b"/m.py:3/aten.mm.default'], ['/c "d"\\e/m.py:4/aten.mm.default'])
    assert renaming.text(r'op_name="/a \"b\"/m.py:3/aten.mm.default"') == (
        r'op_name="/c \"d\"\\e/m.py:4/aten.mm.default"'
    )


def test_a_refusal_for_size_has_the_names_of_the_other_graph():
    old, new = f'op_name="{BEFORE[3]}"', f'op_name="{AFTER[3]}"'
    refused = DoesNotFit("v5e", 8, 4, f"too large: {old}", Assignment(b"", old)).renamed(Renaming(BEFORE, AFTER))
    assert (refused.needed, refused.available, refused.why) == (8, 4, f"too large: {new}")
    assert refused.assignment == Assignment(b"", new)
