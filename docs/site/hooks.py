"""Adds to the pages of docs/ the papers of the project, the examples, and text for machines.

Beside each page lies its Markdown, and llms.txt lists them all, as https://llmstxt.org says.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.nav import Navigation
from mkdocs.structure.pages import Page
from nbconvert import MarkdownExporter

PAPERS = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md", "SECURITY.md": "security.md"}
_DIRECTIVE = re.compile(r"^::: (\S+)\n(?: {4}.*\n)*", re.MULTILINE)
_LINK = re.compile(r"(?<=\]\()([^)\s#]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the papers of the top level, the examples and the notebooks to the files of docs/."""
    root = Path(config.docs_dir).parent
    for paper, name in PAPERS.items():
        text = (root / paper).read_text(encoding="utf-8")
        files.append(File.generated(config, name, content=_LINK.sub(lambda link: _from_docs(link[1]), text)))
    files.append(File.generated(config, "examples.md", content=_examples(root / "examples")))
    for notebook in sorted(Path(config.docs_dir, "notebooks").glob("*.ipynb")):
        for uri, content in _notebook(notebook).items():
            files.append(File.generated(config, uri, content=content))
    return files


def _from_docs(link: str) -> str:
    """Return a link of a paper at the top level as it is from docs/."""
    return PAPERS.get(link, link.removeprefix("docs/"))


def _examples(folder: Path) -> str:
    """Return a page with the sources of all examples."""
    parts = [
        "# Examples\n\nEach runs on any machine that has Python; `pip install '.[examples]'` installs what they need.\n"
    ]
    for path in sorted([*folder.glob("*.py"), *folder.glob("*.toml")]):
        parts.append(f"## {path.name}\n\n```{path.suffix[1:].replace('py', 'python')}\n{path.read_text('utf-8')}```\n")
    return "\n".join(parts)


def _notebook(path: Path) -> dict[str, str | bytes]:
    """Return a notebook as a page and the pictures of its outputs, by their places in the site."""
    exporter = MarkdownExporter(exclude_output_prompt=True, exclude_input_prompt=True)
    text, resources = exporter.from_notebook_node(nbformat.read(path, as_version=4))
    pictures = {f"notebooks/{path.stem}_{name}": content for name, content in resources["outputs"].items()}
    text = re.sub(r"!\[png\]\((\S+)\)", rf"![A plot of the cell above]({path.stem}_\1)", text)
    source = f"This page is a notebook, `docs/notebooks/{path.name}`, with the outputs of its last run."
    return {f"notebooks/{path.stem}.md": f"{text}\n\n{source}\n", **pictures}


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links of docs/ to notebooks, and to the papers of the top level, into links to their pages."""
    markdown = re.sub(r"(?<=\w)\.ipynb\)", ".md)", markdown)
    depth = page.file.src_uri.count("/")
    for paper, name in PAPERS.items():
        markdown = markdown.replace(f"]({'../' * (depth + 1)}{paper}", f"]({'../' * depth}{name}")
    return markdown


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Write the page's Markdown beside it."""
    target = Path(config.site_dir, page.file.dest_uri).with_suffix(".md")
    target.parent.mkdir(parents=True, exist_ok=True)
    handler: Any = config.plugins["mkdocstrings"].get_handler("python")  # type: ignore[attr-defined]
    text = _DIRECTIVE.sub(lambda match: _in_markdown(handler, match[1]), page.markdown or "")
    target.write_text(text, encoding="utf-8")
    return output


def _in_markdown(handler: Any, name: str) -> str:
    """Return what the site says of a public name, for those who read text."""
    found = handler.collect(name, handler.get_options({}))
    docstring = found.docstring.value if found.docstring else ""
    parameters = getattr(found, "parameters", None)
    signature = f"({', '.join(str(p) for p in parameters)})" if found.is_function and parameters else ""
    return f"### {name}\n\n```python\n{name}{signature}\n```\n\n{docstring}\n"


_nav: Navigation


def on_nav(nav: Navigation, config: MkDocsConfig, files: Files) -> Navigation:
    """Keep the navigation for llms.txt."""
    global _nav
    _nav = nav
    return nav


def on_post_build(config: MkDocsConfig) -> None:
    """Write llms.txt: the pages in the order of the navigation, each with its first sentence."""
    lines = [f"# {config.site_name}", "", f"> {config.site_description}", ""]
    for item in _nav.items:
        pages = [item] if isinstance(item, Page) else [each for each in _below(item) if isinstance(each, Page)]
        lines += [f"## {item.title}", "", *(_entry(page) for page in pages), ""]
    Path(config.site_dir, "llms.txt").write_text("\n".join(lines), encoding="utf-8")


def _below(section: Any) -> list[Any]:
    return [each for child in section.children for each in ([child] if isinstance(child, Page) else _below(child))]


def _entry(page: Page) -> str:
    without_code = re.sub(r"<!--.*?-->|^```.*?^```", "", page.markdown or "", flags=re.DOTALL | re.MULTILINE)
    prose = re.sub(r"^[#|*<!].*$", "", without_code, flags=re.MULTILINE)
    first = re.split(r"(?<=\.) ", " ".join(prose.split()))[0]
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", first)
    return f"- [{page.title}]({Path(page.file.dest_uri).with_suffix('.md').as_posix()}): {plain}"
