"""report.html in a headless browser: desktop and phone, light and dark, no network requests."""

import re
import shutil

import pytest

from ssddl_jax.report.page import SECTIONS, write_report
from test_report import write_run

pytestmark = pytest.mark.slow

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
NAMES = ("chromium", "chromium-browser", "google-chrome")
RUNS = {
    "circle": {"rounds": 40, "group_size": 20, "dropout": 0.2, "max_dropout": 0.3},
    "heat map": {"participants": 400, "group_size": 200, "neighbours": 20, "rounds": 700},
    "plain": {"protocol": "plain", "rounds": 1, "out": "a-rather-" + "long-" * 30 + "name"},
}
CONTRAST = 4.5  # WCAG AA for text


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="needs the extra browser: playwright")
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"needs one of {', '.join(NAMES)} on the PATH")
    with api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield running
        running.close()


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """The path of each run's report."""
    folder = tmp_path_factory.mktemp("reports")
    made = {}
    for name, fields in RUNS.items():
        gone = {"alive": 16, "attempt": 1} if "dropout" in fields else {}
        run = write_run(folder / name, lambda index, gone=gone: gone, **fields)
        made[name] = write_report(run)
    return made


def luminance(colour):
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("name", RUNS)
def test_it_looks_right(browser, reports, name, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(reports[name].as_uri())

    assert asked == [reports[name].as_uri()]
    assert said == []
    for section, title, _ in SECTIONS:
        box = page.locator(f"#{section}").bounding_box()
        assert box is not None, section
        assert box["width"] > 0.8 * min(width, 1152)
        assert box["height"] > 60
        assert page.get_by_role("heading", name=title, exact=True, level=2).is_visible()
    wide = page.evaluate("[document.scrollingElement.scrollWidth, innerWidth]")
    assert wide[0] <= wide[1] == width
    smallest = page.evaluate(
        "Math.min(...[...document.querySelectorAll('svg text')].map(t => 15 * t.getScreenCTM().a))"
    )
    assert smallest >= 9, "labels of pictures are too small to read"
    colour = "e => getComputedStyle(e).color"
    ground = page.locator("#curves").evaluate("e => getComputedStyle(e).backgroundColor")
    assert (luminance(ground) > 0.5) == (scheme == "light")
    for text in ("h2", "figcaption", ".verdict", "a", "dt"):
        found = page.locator(text).first.evaluate(colour)
        assert contrast(found, ground) >= CONTRAST, text
    page.close()
