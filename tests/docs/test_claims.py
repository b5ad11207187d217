"""Claims of the papers about the code, checked: links, files, names, options, commands, figures, and the road of a graph."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import inspect
import re
import shlex
from itertools import pairwise
from pathlib import Path

import click
import pytest
import typer

import tpu_dynamo
from tpu_dynamo import Options, Snapshot
from tpu_dynamo.cli import app
from tpu_dynamo_lowering import pipeline
from tpu_dynamo_lowering.outside import GROUP

from .pages import PRESENT, ROOT, anchors, blocks, commands, inline_code, links, name_of

SOURCES = [*ROOT.glob("tpu_dynamo/**/*.py"), *ROOT.glob("lowering/**/*.py"), *ROOT.glob("runtime/**/*.py")]
FILES = [p.relative_to(ROOT).as_posix() for top in ("tpu_dynamo", "lowering", "runtime", "tests", "examples", "docs", ".ci")
         for p in ROOT.glob(f"{top}/**/*")]  # fmt: skip
LOGGERS = {
    name for source in SOURCES for name in re.findall(r'getLogger\("([\w.]+)"\)', source.read_text(encoding="utf-8"))
}
each_page = pytest.mark.parametrize("page", PRESENT, ids=name_of)


@each_page
def test_links_lead_to_pages_and_headings(page):
    for link in links(page):
        if link.startswith(("http:", "https:", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@each_page
def test_files_that_are_named_exist(page):
    """A file may be named by the end of its path, as `graph/prepare.py`."""
    for code in inline_code(page):
        if re.fullmatch(r"[\w./]+\.(py|md|toml|json)", code) and not code.startswith(("/", "~")):
            example = code in {
                "MANIFEST.toml",
                "train.py",
                "model.py",
                "models.py",
                "report.json",
                "report.md",
                "rewrites/new.py",
            }
            assert example or (ROOT / code).exists() or any(f"/{f}".endswith(f"/{code}") for f in FILES), code


@each_page
def test_public_names_that_are_named_exist(page):
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"\btpu_dynamo\.([A-Za-z_]\w*)", text):
        module = importlib.util.find_spec(f"tpu_dynamo.{name}") is not None
        assert module or hasattr(tpu_dynamo, name) or f"tpu_dynamo.{name}" in {*LOGGERS, GROUP}, name
    fields = {field.name for field in dataclasses.fields(Snapshot)}
    for name in re.findall(r"stats\(\)\.(\w+)", text):
        assert name in fields or hasattr(Snapshot, name), name


@each_page
def test_options_that_are_named_exist(page):
    known = {field.name for field in dataclasses.fields(Options)}
    for given in re.findall(r"options=\{(.*?)\}", page.read_text(encoding="utf-8"), re.DOTALL):
        plain = re.sub(r"#.*|\{[^}]*", "", given)  # in an inner dict are XLA's names, not ours
        assert set(re.findall(r"[\"'](\w+)[\"']\s*:", plain)) <= known, given


def test_every_option_is_in_the_papers():
    everything = "".join(page.read_text(encoding="utf-8") for page in PRESENT)
    missing = [field.name for field in dataclasses.fields(Options) if field.name not in everything]
    assert not missing


def test_environment_variables_in_the_papers_are_read_and_those_that_are_read_are_in_the_papers():
    pattern = re.compile(r"\bTPU_DYNAMO_[A-Z_]+[A-Z]\b")
    named = {v for page in PRESENT for v in pattern.findall(page.read_text(encoding="utf-8"))}
    read = {v for source in SOURCES for v in pattern.findall(source.read_text(encoding="utf-8"))}
    assert named <= read
    internal = {"TPU_DYNAMO_RECORD"}  # set by `tpu-dynamo run` for the processes that it starts
    assert read - internal <= named


@each_page
def test_code_in_python_is_python_and_names_parameters_that_exist(page):
    for block in blocks(page, "python"):
        try:
            tree = ast.parse(block.text)
        except SyntaxError as error:
            pytest.fail(f"line {block.line}: {error}")
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            function = ast.unparse(call.func)
            if function.startswith("tpu_dynamo.") and function.count(".") == 1:
                parameters = inspect.signature(getattr(tpu_dynamo, function.partition(".")[2])).parameters
                takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
                assert takes_any or {k.arg for k in call.keywords if k.arg} <= set(parameters), function


@each_page
def test_commands_name_verbs_options_and_modules_that_exist(page):
    for command in commands(page):
        # What follows `--` is the user's own command; words in capitals stand for something.
        words = [word.rpartition("/")[2] if word.endswith("tpu-dynamo") else word for word in _words(command)]
        if words[:1] == ["tpu-dynamo"]:
            _check_verb(words[1:])
        for flag, module in pairwise(words):
            if flag == "-m" and module.startswith(("tests.", "tpu_dynamo")) and not module.endswith(".NAME"):
                assert importlib.util.find_spec(module) is not None, command
        for word in words:
            if re.fullmatch(r"(tests|examples|docs)/[\w./-]+", word):
                made_by_the_page = f"# {word}\n" in page.read_text(encoding="utf-8")
                assert made_by_the_page or (ROOT / word).exists(), command


def _words(command: str) -> list[str]:
    try:
        words = shlex.split(command.partition(" -- ")[0], comments=True)
    except ValueError:  # a piece of a sentence that a line's end cuts
        return []
    while words and re.fullmatch(r"\w+=\S*", words[0]):
        words.pop(0)
    return words


def _check_verb(words: list[str]) -> None:
    found = typer.main.get_command(app)
    rest = list(words)
    while isinstance(found, click.Group) or hasattr(found, "commands"):
        if not rest or rest[0].startswith("-") or not rest[0].islower():
            break
        verb = rest.pop(0).rstrip(",;.")
        assert verb in found.commands, " ".join(words)
        found = found.commands[verb]
    options = {option for parameter in found.params for option in (*parameter.opts, *parameter.secondary_opts)} | {
        "--help"
    }
    for word in rest:
        if word.startswith("--"):
            assert word.partition("=")[0] in options, f"{' '.join(words)}: {word}"


_FIGURE = re.compile(r"\b\d[\d,.]*\s?(x|us|ms|MiB|GiB|GB|MB|kB|s|seconds|minutes|million cycles)\b")
_MAKES_FIGURES = re.compile(r"python -m (tests|pytest)|tpu-dynamo |examples/")


@each_page
def test_measured_figures_have_the_command_that_makes_them_in_their_section(page):
    """Bounds and defaults are no measurements: their lines say `at most`, `limit`, `bound`, `default` or `may take`."""
    if page.name in ("ops.md", "cli.md"):
        return
    for section in re.split(r"(?m)^(?=#)", page.read_text(encoding="utf-8")):
        sentences = re.sub(r"```.*?```", "", section, flags=re.DOTALL)
        for line in sentences.splitlines():
            if _FIGURE.search(line) and not re.search("at most|limit|bound|default|may take", line):
                assert _MAKES_FIGURES.search(section), f"{section.splitlines()[0]}: {line}"


HOW = ROOT / "docs" / "how_it_works.md"


def road() -> list[str]:
    """The files of the graph's road, in its order."""
    (block,) = [block for block in blocks(HOW, "") if "torch.compile" in block.text]
    return [file for line in block.text.splitlines() for file in re.findall(r"[\w/]+\.py", line)]


def test_a_graph_goes_through_its_package_in_one_direction():
    """Files of graph/ import only what stands to their right in the page's line of them."""
    (line,) = [code for code in inline_code(HOW) if code.startswith("torch_cache.py > ")]
    order = [part.split(", ") for part in line.split(" > ")]
    folder = ROOT / "tpu_dynamo" / "graph"
    for i, files in enumerate(order):
        left = {file for group in order[: i + 1] for file in group}
        for file in files:
            assert not _reached(folder / file) & (left - {file}), file
            assert not _imported(folder / file) & left, file


def _reached(path: Path) -> set[str]:
    found = _imported(path)
    return found.union(*(_reached(path.parent / file) for file in found))


def _imported(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    modules = [n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.level == 1 and n.module]
    return {f"{module.partition('.')[0]}.py" for module in modules}


def test_lowering_goes_as_the_road_says():
    """The files that the road names between `lower` and `Program` have functions that `lower` calls in that order."""
    files = road()
    files = files[files.index("sizes.py") : files.index("program.py")]
    source = inspect.getsource(pipeline.lower)
    tree = ast.parse(Path(pipeline.__file__).read_text(encoding="utf-8"))
    names: dict[str, list[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            for alias in node.names:
                module = (node.module or alias.name).replace(".", "/")
                names.setdefault(f"{module}.py", []).append(alias.name)
    position = 0
    for file in files:
        calls = [match.start() for name in names.get(file, []) for match in re.finditer(rf"\b{name}\b", source)]
        if calls:  # a helper of the pass before it is not called here
            later = [at for at in calls if at > position]
            assert later, file
            position = min(later)
    assert {"sizes.py", "expand.py", "layouts.py", "mlir.py", "link.py"} <= {f for f in files if names.get(f)}


def test_nothing_of_ours_is_unpickled_or_evaluated():
    """SECURITY.md: pickles are torch's, behind its doors."""
    doors = ("_torch_compat", "jax_compat")
    for source in SOURCES:
        if any(door in source.as_posix() for door in doors):
            continue
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {"pickle", "marshal", "shelve", "dill"} & set(modules), source
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            assert called not in ("eval", "exec", "torch.load"), (source, called)
