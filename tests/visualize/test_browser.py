"""The pages in headless Chromium, on a wide and on a narrow screen."""

import shutil

import pytest

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def browser():
    if BROWSER is None:
        pytest.skip("requires chromium (Debian: apt-get install chromium)")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield opened
        opened.close()


def open_page(browser, page, width):
    """Open a page; return messages, external requests, image widths, overflow, font size."""
    messages, requested = [], []
    tab = browser.new_page(viewport={"width": width, "height": 900})
    tab.on("console", lambda message: messages.append(message.text))
    tab.on("pageerror", lambda error: messages.append(str(error)))
    tab.on("request", lambda request: requested.append(request.url))
    tab.goto(page.as_uri())
    widths = tab.evaluate("[...document.images].map(image => image.naturalWidth)")
    too_wide = tab.evaluate("document.documentElement.scrollWidth - innerWidth")
    size = tab.evaluate("parseFloat(getComputedStyle(document.body).fontSize)")
    tab.close()
    others = [url for url in requested if not url.startswith(("file:", "data:"))]
    return messages, others, widths, too_wide, size


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("name", ["data_page", "model_page", "report"])
def test_a_page_is_complete_and_readable(browser, request, name, width):
    folder = request.getfixturevalue(name)
    folder = folder[0] if name == "report" else folder
    messages, others, widths, too_wide, size = open_page(browser, folder / "index.html", width)
    assert messages == []
    assert others == []
    assert len(widths) > 5
    assert min(widths) > 0
    assert too_wide <= 0
    assert size >= 14
