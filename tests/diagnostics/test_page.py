"""The page: valid HTML, no harm done, and in headless Chromium sorting, filtering, light, dark and a phone's width."""

from __future__ import annotations

import re
import shutil

import html5lib
import pytest

from tests.diagnostics.reports import hostile, large
from tpu_dynamo.diagnostics.model import Report, ReportedRun
from tpu_dynamo.diagnostics.report_files import write
from tpu_dynamo.diagnostics.views.html import as_html

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.parametrize("made", ["large", "hostile", "empty"])
def test_the_page_is_valid_html_without_network(made, tmp_path):
    report = {"large": lambda: large(tmp_path, 5), "hostile": lambda: hostile(tmp_path), "empty": empty}[made]()
    page = as_html(report)
    tree = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(page)
    assert len(list(tree.iter("script"))) == 1
    assert not list(tree.iter("img"))
    fetched = [e.get(a) for e in tree.iter() for a in ("src", "srcset", "data") if e.get(a)]
    fetched += [e.get("href") for e in tree.iter("link")]
    assert fetched == ["data:,"]
    assert "url(" not in page
    assert "@import" not in page
    ids = [e.get("id") for e in tree.iter() if e.get("id")]
    assert len(set(ids)) == len(ids)
    assert all(e.get("href")[1:] in ids for e in tree.iter("a") if e.get("href").startswith("#"))
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e]", page)
    assert not [e.attrib for e in tree.iter() if any(name.startswith("on") for name in e.attrib)]


def empty():
    return Report(ReportedRun("this process"))


@pytest.fixture(scope="module")
def chromium():
    if BROWSER is None:
        pytest.skip("no chromium on this machine (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium, tmp_path):
    """A function that opens a report's page; every word on the console and every request fails the test."""
    said = []

    def open_page(report, **settings):
        file = write(report, tmp_path / "report.html", ".html")
        page = chromium.new_context(**settings).new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: request.url.startswith(("file:", "data:")) or said.append(request.url))
        page.goto(file.as_uri())
        return page

    yield open_page
    assert not said


def column(page, number):
    return page.locator(f"#changes-table tbody tr:visible td:nth-child({number})").all_inner_texts()


def test_sorting_by_mouse_and_keyboard(opened, tmp_path):
    page = opened(large(tmp_path, 12))
    heading = page.get_by_role("columnheader", name="saves").first
    button = heading.get_by_role("button")
    button.click()
    numbers = [float(t.split()[0]) / (1 if t.endswith(" s") else 1000) for t in column(page, 4)]
    assert heading.get_attribute("aria-sort") == "ascending"
    assert numbers == sorted(numbers)
    assert len(set(numbers)) > 2
    button.focus()
    page.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") == "descending"
    assert [float(t.split()[0]) / (1 if t.endswith(" s") else 1000) for t in column(page, 4)] == numbers[::-1]
    page.get_by_role("columnheader", name="code").get_by_role("button").click()
    assert heading.get_attribute("aria-sort") is None
    assert column(page, 2) == sorted(column(page, 2))


def test_filtering_by_words_and_kind(opened, tmp_path):
    page = opened(large(tmp_path, 20))
    tools = page.locator('[data-tools="changes-table"]')
    assert len(column(page, 1)) == 22
    tools.get_by_label("Filter").fill("model.py:7: gb0124")
    assert len(column(page, 1)) == 1
    assert tools.get_by_role("status").inner_text() == "1 of 22 shown"
    tools.get_by_label("Filter").fill("")
    tools.get_by_label("Kind").select_option("recompile")
    assert column(page, 2) == ["TPU201", "TPU201"]
    tools.get_by_label("Kind").select_option("")
    assert len(column(page, 1)) == 22


def test_a_change_leads_to_its_section(opened, tmp_path):
    page = opened(large(tmp_path, 5))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    link = page.locator("#changes-table tbody a").first
    target = link.get_attribute("href")
    link.click()
    assert page.locator(target).get_by_role("heading").first.is_visible()
    assert page.locator(f"{target} mark").first.inner_text().startswith("weights[")


@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 1200), ("light", 390), ("dark", 390)])
def test_it_fits_and_can_be_read(scheme, width, opened, tmp_path):
    page = opened(large(tmp_path, 4), color_scheme=scheme, viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for selector in ("body", ".quiet", "a", "pre.code", ".tag", "mark"):
        assert contrast(page, selector) >= 4.5, (selector, scheme)
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")


def contrast(page, selector):
    """The contrast of an element's text to what lies behind it, as WCAG defines it."""
    text, behind = page.evaluate(
        """selector => {
          const element = document.querySelector("main " + selector) || document.querySelector(selector);
          const parse = (text) => text.match(/[\\d.]+/g).map(Number);
          let under = element;
          while (parse(getComputedStyle(under).backgroundColor)[3] === 0) under = under.parentElement;
          return [parse(getComputedStyle(element).color), parse(getComputedStyle(under).backgroundColor)];
        }""",
        selector,
    )
    first, second = sorted((luminance(text), luminance(behind)), reverse=True)
    return (first + 0.05) / (second + 0.05)


def luminance(colour):
    parts = [c / 255 / 12.92 if c / 255 <= 0.03928 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def test_harm_is_shown_and_not_done(opened, tmp_path):
    page = opened(hostile(tmp_path))
    assert page.evaluate("window.harmed") is None
    assert "<script>window.harmed=1</script>" in page.locator("main").inner_text()
    assert "{{ 7*7 }}" in page.locator("main").inner_text()
