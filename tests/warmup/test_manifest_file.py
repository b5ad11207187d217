"""Manifests: what is wrong with one is said with its line, all at once; what is right is read."""

from __future__ import annotations

import json
import tomllib

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tpu_dynamo.warmup.manifest import json_schema
from tpu_dynamo.warmup.manifest_file import ManifestError, read_manifest
from tpu_dynamo.warmup.toml_lines import key_lines, line_of

SOUND = """\
schema = 1

[defaults]
targets = ["cpu", "v5e:2x2"]

[model.bert]
factory = "models:bert"
kwargs = { layers = 4 }
modes = ["inference", "train"]
dims = { batch = [1, 8], length = { min = 16, max = 512 } }

[model.bert.inputs]
input_ids = { shape = ["batch", "length"], dtype = "int64" }
use_cache = false

[model."by hand"]
command = ["python", "train.py", "--steps=1"]
"""


def problems(tmp_path, text: str) -> list[tuple[int | None, str, str]]:
    file = tmp_path / "manifest.toml"
    file.write_text(text)
    with pytest.raises(ManifestError) as caught:
        read_manifest(file)
    assert str(caught.value).splitlines()[0].startswith(f"{file}:") or caught.value.problems[0].line is None
    return [(p.line, p.key, p.why) for p in caught.value.problems]


def test_a_sound_manifest_is_read(tmp_path):
    (tmp_path / "manifest.toml").write_text(SOUND)
    manifest = read_manifest(tmp_path / "manifest.toml")
    bert = manifest.model["bert"]
    assert bert.factory == "models:bert"
    assert [tensor.shape for tensor in bert.tensors] == [["batch", "length"]]
    assert bert.dims["length"].sizes == [16, 32, 64, 128, 256, 512]


@pytest.mark.parametrize(
    ("before", "after", "line", "key", "words"),
    [
        pytest.param("targets =", "targts =", 4, "defaults.targts", ["did you mean 'targets'?", "modes"], id="unknown"),
        pytest.param("kwargs = {", "init = 'mete'\nkwargs = {", 8, "model.bert.init",
                     ["did you mean 'meta'?", "random, real"], id="not-allowed"),
        pytest.param('"v5e:2x2"', '"v5e:2x3"', 4, "defaults.targets", ["did you mean 'v5e:2x4'?"], id="target"),
        pytest.param("[1, 8]", "[1, -8]", 10, "model.bert.dims.batch[1]", ["greater than 0", "-8"], id="negative"),
        pytest.param('"length"], d', '"lenth"], d', 6, "model.bert", ["'lenth'", "did you mean 'length'?"], id="dim"),
        pytest.param('"int64"', '"int6"', 13, "model.bert.inputs.input_ids.dtype", ["'int64'"], id="dtype"),
        pytest.param("dtype =", "dtpe =", 13, "model.bert.inputs.input_ids.dtpe", ["'dtype'"], id="unknown-inside"),
        pytest.param("models:bert", "models.bert", 7, "model.bert.factory", ["module:function"], id="function"),
        pytest.param("max = 512", "max = 8", 10, "model.bert.dims.length", ["min 16 and max 8"], id="bounds"),
        pytest.param("schema = 1", "schema = 2", 1, "schema", ["Allowed: 1"], id="schema"),
        pytest.param("layers = 4 }", "layers = 4", 8, "", ["no TOML"], id="syntax"),
        pytest.param('command = ["python", "train.py", "--steps=1"]', "timeout = 'x'", 17, "model.by hand.timeout",
                     ["valid number", "'x'"], id="type"),
        pytest.param('"inference", "train"', '"inference", "step"', 6, "model.bert", ["optimizer"], id="no-optimizer"),
        pytest.param("{ layers = 4 }", "[4]", 8, "model.bert.kwargs", ["valid dictionary"], id="wrong-kind"),
    ],
)  # fmt: skip
def test_a_problem_names_its_line_and_what_is_allowed(tmp_path, before, after, line, key, words):
    assert before in SOUND
    ((found_line, found_key, why),) = problems(tmp_path, SOUND.replace(before, after))
    assert (found_line, found_key) == (line, key)
    for word in words:
        assert word in why


def test_every_problem_is_told_at_once(tmp_path):
    text = SOUND.replace("targets =", "targts =").replace('"int64"', '"int6"').replace("models:bert", "bert")
    assert [line for line, _, _ in problems(tmp_path, text)] == [4, 7, 13]


def test_a_manifest_that_is_not_there_is_said_so(tmp_path):
    with pytest.raises(ManifestError, match="No such file"):
        read_manifest(tmp_path / "none.toml")


def test_the_published_schema_takes_what_is_read_and_refuses_what_is_not():
    schema = json_schema()
    json.dumps(schema)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(tomllib.loads(SOUND), schema)
    for before, after in (("targets =", "targts ="), ('"int64"', '"int6"'), ("schema = 1", "schema = 2")):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(tomllib.loads(SOUND.replace(before, after)), schema)


def test_lines_are_found_in_strings_lists_and_tables_that_span_lines():
    text = '''\
a = """
[not.a.table]
b = 1
"""
[t]  # a comment with ] and "
list = [
  { x = 1 },  # }
  "}]",
]
"quoted key" = 1
[t.'inner']
deep.er = { y = [1,
  2] }
last = 3
[[many]]
n = 1
[[many]]
n = 2
'''
    tomllib.loads(text)
    lines = key_lines(text)
    assert lines["a",] == 1
    assert ("not", "a", "table") not in lines
    assert lines["t", "list"] == 6
    assert lines["t", "quoted key"] == 10
    assert lines["t", "inner", "deep", "er"] == 12
    assert lines["t", "inner", "last"] == 14
    assert lines["many", 1, "n"] == 18
    assert line_of(lines, ("t", "list", 0, "x")) == 6
    assert line_of(lines, ("nowhere",)) is None


@given(st.lists(st.tuples(st.sampled_from("abc"), st.text(alphabet="xyz0", min_size=1, max_size=3)), unique=True))
def test_every_key_of_a_plain_table_has_its_line(pairs):
    tables: dict[str, list[str]] = {}
    for table, key in pairs:
        tables.setdefault(table, []).append(key)
    rows = [row for table, keys in tables.items() for row in (f"[{table}]", *(f"{key} = '[{key}'" for key in keys))]
    lines = key_lines("\n".join(rows))
    for table, keys in tables.items():
        for key in keys:
            assert rows[lines[table, key] - 1].startswith(f"{key} =")
