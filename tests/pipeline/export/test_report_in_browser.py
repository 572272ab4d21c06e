"""The page in Chromium, from the file: no error, no request, maps that move, on a screen and on a phone."""

import asyncio
import base64
import io
import re

import pytest
from browser import CHROMIUM, visit
from PIL import Image
from small_mosaic import make, paint, picture

from pipeline.export.panes import Subject
from pipeline.export.report import FILE, write_report
from pipeline.steps.journal import Journal

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium"),
]

MAIN = "document.getElementById('main')"
SHOWN = f"{MAIN}.toDataURL()"
CENTRE = f"(box => [box.left + box.width / 2, box.top + box.height / 2])({MAIN}.getBoundingClientRect())"
WIDTHS = pytest.mark.parametrize("width", [1280, 390])


@pytest.fixture
def page(done):
    """The report of a run of three classes."""
    _, output = done
    return Journal.of(output).folder / FILE


def on(file, width, act, **options):
    """Visit a page, do something, and see that it was quiet all the while."""

    async def main():
        async with visit(file, width, **options) as page:
            await act(page)
            assert page.said == []
            assert [address.partition(":")[0] for address in page.asked if not address.startswith("data:")] == ["file"]

    asyncio.run(main())


def pixel(uri, across, down):
    """Red, green, blue and opacity at a share of the width and height of a picture."""
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as picture:
        return picture.convert("RGBA").getpixel((int(picture.width * across), int(picture.height * down)))


@WIDTHS
@pytest.mark.parametrize("dark", [False, True])
def test_it_is_quiet_and_fits(page, tmp_path, width, dark):
    """No message, no request but for itself, nothing wider than the window; the sections are there."""

    async def act(page):
        assert await page.value("document.documentElement.scrollWidth") <= width
        shown = "[...document.querySelectorAll('main > .card, .columns > .card')].filter(s => !s.hidden).length"
        assert await page.value(shown) == 9
        await page.picture(tmp_path / "page.png")
        assert (tmp_path / "page.png").stat().st_size > 50_000

    on(page, width, act, dark=dark)


@WIDTHS
def test_maps_zoom_and_move_together(page, width):
    """A press on + doubles the zoom of all panes; a drag moves what is shown."""

    async def act(page):
        await page.value("document.getElementById('in').click()")
        zooms = "[...document.querySelectorAll('canvas.view')].map(c => c.dataset.zoom)"
        assert await page.value(zooms) == ["2.000"] * 4
        before, (x, y) = await page.value(SHOWN), await page.value(CENTRE)
        await page.press(x, y, (x - 80, y - 20))
        assert await page.value(SHOWN) != before
        await page.value("document.getElementById('fit').click()")
        assert await page.value(zooms) == ["1.000"] * 4

    on(page, width, act)


@WIDTHS
def test_the_overlay_fades(page, width):
    """By the slider: at nothing the image alone is seen, grey; at all of it the class's colour."""

    async def act(page):
        for share, expected in ((0, (26, 26, 26, 255)), (100, None)):
            set_to = f"(s => {{ s.value = {share}; s.dispatchEvent(new Event('input')); }})"
            await page.value(f"{set_to}(document.getElementById('opacity'))")
            found = pixel(await page.value(SHOWN), 0.1, 0.3)
            assert (found == expected) if expected else (max(found[:3]) - min(found[:3]) > 60)
            assert await page.value("document.getElementById('percent').textContent") == f"{share} %"

    on(page, width, act)


def test_names_are_text(page):
    """Markup in the names of classes is read, not run; a press on a class shows it alone."""

    async def act(page):
        names = await page.value("[...document.querySelectorAll('#classes .name')].map(n => n.textContent)")
        assert "0  <script>window.pwned = 1</script>" in names
        assert await page.value("window.pwned ?? 'no'") == "no"
        before = await page.value(SHOWN)
        await page.value("document.querySelector('#classes button').click()")
        assert await page.value("document.querySelector('#classes button').getAttribute('aria-pressed')") == "true"
        assert await page.value(SHOWN) != before

    on(page, 1280, act)


def test_a_place_tells_its_class(page):
    """Under the mouse, by number and name, with row, column and place: no colour needs to be known."""

    async def act(page):
        x, y = await page.value(CENTRE)
        await page.press(x, y)
        told = await page.value("document.getElementById('read').textContent")
        row, col, east, north = map(
            float, re.match(r"row (\d+), column (\d+) .* x ([\d.]+), y ([\d.]+)", told).groups()
        )
        assert (row, col) == (pytest.approx(180, abs=2), pytest.approx(360, abs=2))
        assert (east, north) == (3e5 + col + 0.5, 2e6 - row - 0.5)
        assert "1 </script><img src=x" in told
        assert "confidence 1.00" in told or "confidence 0.9" in told

    on(page, 1280, act)


def test_keys_move_the_map(page):
    """Without a mouse: + zooms, an arrow moves, 0 goes back."""

    async def act(page):
        for key, zoom in (("+", "1.500"), ("ArrowRight", "1.500"), ("0", "1.000")):
            pressed = f"{MAIN}.dispatchEvent(new KeyboardEvent('keydown', {{key: '{key}', bubbles: true}}))"
            await page.value(pressed)
            assert await page.value(f"{MAIN}.dataset.zoom") == zoom

    on(page, 1280, act)


def test_throughput_is_drawn(page):
    """Bars with an axis, and a table's worth of words for those who do not see them."""

    async def act(page):
        assert await page.value("document.querySelectorAll('#pace svg .bar').length") > 2
        assert "megapixels per second" in await page.value("document.querySelector('#pace svg').ariaLabel")

    on(page, 1280, act)


@WIDTHS
def test_objects_without_a_run(tmp_path, width):
    """A mosaic alone: all layers can be chosen, and what is not known is left out."""
    mosaic = paint(make(tmp_path / "a.zarr"), picture())
    write_report(Subject.open(mosaic.path), tmp_path / "p.html")

    async def act(page):
        await page.value(
            "[...document.querySelectorAll('#overlays button')].find(b => b.textContent === 'Objects').click()"
        )
        assert await page.value(
            "[...document.querySelectorAll('#overlays button')].map(b => b.getAttribute('aria-pressed'))"
        ) == [*("false", "true", "false")]
        assert await page.value("document.getElementById('pace').hidden")
        assert not await page.value("document.getElementById('notes').hidden")

    on(tmp_path / "p.html", width, act)
