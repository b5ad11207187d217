"""The page: valid HTML, no harm done, and in headless Chromium the timeline, the modules, light, dark and a phone's width."""

from __future__ import annotations

import shutil

import html5lib
import pytest

from tpu_dynamo.profiling.model import Event, GraphTime, LineTime, OperationTime, Profile, Step
from tpu_dynamo.profiling.views.page import as_html
from tpu_dynamo.profiling.views.terminal import as_text

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
EVIL = '</script><script>alert(1)</script>"\u202e'


def parts(**given):
    return {name: given.get(name, 0.0) for name in ("guards", "dispatch", "transfer", "execution", "compile", "host")}


def made(steps: int = 6, name: str = "fusion", synchronous: bool = True) -> Profile:
    """Return a profile of so many steps of 10 ms, with a name of anybody's in all texts."""
    each = parts(guards=0.0005, dispatch=0.0015, execution=0.006, host=0.002)
    operations = [
        OperationTime(
            "forward graph", name, "fusion", "aten.mm.default", f"self.layers.{i}", f"/{name}.py", i, 6, 0.012
        )
        for i in range(3)
    ]
    events = [
        Event(lane, name, kind, 0.01 * i + at, length)
        for i in range(steps)
        for lane, kind, at, length in (("host", "dispatch", 0, 0.0015), ("calls", "execution", 0.002, 0.006), ("device", "aten.mm", 0.002, 0.003), ("torch", "torch", 0, 0.01))
    ]  # fmt: skip
    whole = {part: seconds * steps for part, seconds in each.items()}
    return Profile(
        platform="cpu",
        synchronous=synchronous,
        seconds=0.01 * steps,
        parts=whole,
        device_seconds=0.006 * steps,
        steps=tuple(Step(i, 0.01 * i, 0.01, each, 0.006) for i in range(steps)),
        graphs=(GraphTime(name, steps, each, "profiler"),),
        lines=tuple(LineTime(f"/{name}.py", i, name, whole, (name,)) for i in range(3)) if steps else (),
        operations=tuple(operations) if steps else (),
        events=tuple(events),
        transfers={"to the host": (4096, 0.001)},
        notes=(name,),
        versions={"torch": "2"},
        command=(name,),
    )


@pytest.mark.parametrize(
    "profile", [made(), made(0), made(name=EVIL), made(synchronous=False)], ids=["some", "empty", "hostile", "beside"]
)
def test_the_page_is_valid_html_without_network(profile):
    page = as_html(profile)
    tree = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(page)
    assert len(list(tree.iter("script"))) == 3
    fetched = [e.get(a) for e in tree.iter() for a in ("src", "srcset", "data") if e.get(a)]
    assert fetched + [e.get("href") for e in tree.iter("link")] == ["data:,"]
    assert "url(" not in page
    assert "\u202e" not in page
    ids = [e.get("id") for e in tree.iter() if e.get("id")]
    assert len(set(ids)) == len(ids)
    assert "\u202e" not in as_text(profile)


@pytest.fixture(scope="module")
def chromium():
    if BROWSER is None:
        pytest.skip("no chromium on this machine (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.parametrize("width", [1200, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_timeline_and_the_modules_are_used_by_keyboard(chromium, tmp_path, scheme, width):
    (tmp_path / "p.html").write_text(as_html(made(name=EVIL)), encoding="utf-8")
    page = chromium.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    said = []
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("console", lambda message: said.append(message.text))
    page.on("dialog", lambda dialog: said.append("alert"))
    page.goto(f"file://{tmp_path}/p.html")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.focus("#timeline-canvas")
    for key in ("ArrowUp", "ArrowRight", "n", "n", "ArrowDown", "Home"):
        page.keyboard.press(key)
    assert "6.00 ms" in page.inner_text("#timeline-says")
    page.keyboard.press("s")
    assert page.inner_text("#timeline-says") == "step 0: 10.0 ms"
    page.focus("#flame button:nth-child(2)")
    assert page.inner_text("#flame-says").startswith("self: 36.0 ms, 100")
    before = page.locator("#flame button").count()
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    assert page.locator("#flame button").count() == before
    page.click("#lines-table th:nth-child(1) button")
    assert page.get_attribute("#lines-table th:nth-child(1)", "aria-sort") == "ascending"
    painted = page.evaluate(
        "() => { const c = document.getElementById('timeline-canvas'); return new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size }"
    )
    assert painted > 10
    assert said == []
    page.close()
