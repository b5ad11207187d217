"""The site in headless Chromium: nothing is fetched from elsewhere, nothing sticks out, and the search finds pages."""

from __future__ import annotations

import functools
import http.server
import shutil
import threading

import pytest

from .test_site import site as site  # the fixture that builds it

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")]
PAGES = ("index.html", "reference/api.html", "guides/from_cuda.html", "status.html", "one_graph.html")


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A server of files that prints no line for each."""

    def log_message(self, format, *args):
        """Say nothing."""


@pytest.fixture(scope="module")
def address(site):
    """Serve the site from a thread; give its address."""
    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def browser():
    """Give a headless Chromium."""
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280], ids=["phone", "desktop"])
def test_pages_fit_and_fetch_nothing_from_elsewhere(address, browser, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    asked, errors = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    for name in PAGES:
        page.goto(address + name)
        page.wait_for_load_state("networkidle")
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, name
        dark = page.evaluate("document.body.getAttribute('data-md-color-scheme')") == "slate"
        assert dark == (scheme == "dark")
    page.close()
    assert not errors
    assert not [url for url in asked if not url.startswith((address, "data:"))]


def test_the_search_finds_a_page(address, browser):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(address + "index.html")
    page.locator("input.md-search__input").click()
    page.keyboard.type("out of memory", delay=10)
    first = page.locator(".md-search-result__item a").first
    first.wait_for(timeout=20_000)
    assert "what_to_do_when.html" in first.get_attribute("href")
    page.close()
