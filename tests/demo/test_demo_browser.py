"""The page in a real browser."""

import json
import re
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from struct import pack as pack_bytes

import cv2
import numpy as np
import pytest
from chromium import find_chromium
from PIL import Image

from binseg.data.imageio import read_image, read_mask, write_image
from binseg.data.scenes import draw_scene
from binseg.predictor import Predictor

playwright = pytest.importorskip("playwright.sync_api")

HEIGHT, WIDTH = 75, 101
RESULT = "#viewer [data-state=result]"
PIXELS = """() => {
  const canvas = document.querySelector("#viewer canvas");
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  return { width: canvas.width, height: canvas.height, data: Array.from(data) };
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator["playwright.Browser"]:
    executable = find_chromium()
    if executable is None:
        pytest.skip("no Chromium here; `python tests/demo/chromium.py` installs it")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def desktop(browser) -> Iterator["playwright.BrowserContext"]:
    """One for most tests, so that gradio's files are read and compiled once."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    yield context
    context.close()


@pytest.fixture
def open_page(browser, desktop, demo):
    """A function that opens the demo; the page may ask no other host for anything."""
    opened, foreign = [], []

    def note(request) -> None:
        if not request.url.startswith((demo.address, "data:", "blob:")):
            foreign.append(request.url)

    def open_page(**options):
        context = browser.new_context(**options) if options else desktop
        page = context.new_page()
        opened.append(context if options else page)
        page.set_default_timeout(120_000)
        page.on("request", note)
        page.goto(demo.address)
        page.locator("#viewer .message").wait_for(state="attached")
        return page

    yield open_page
    for each in opened:
        each.close()
    assert foreign == []


@pytest.fixture
def street(tmp_path) -> Path:
    path = tmp_path / "my street.png"
    write_image(path, draw_scene(3, 1, (HEIGHT, WIDTH)).image)
    return path


def upload(page, path: Path) -> None:
    page.locator("#image input[type=file]").set_input_files(path)


def segmented(page, path: Path):
    upload(page, path)
    page.locator(RESULT).wait_for()
    return page


def pixels(page) -> np.ndarray:
    """What the canvas shows, HWC uint8 RGB."""
    found = page.evaluate(PIXELS)
    flat = np.array(found["data"], np.uint8)
    return flat.reshape(found["height"], found["width"], 4)[..., :3]


def set_opacity(page, percent: int) -> None:
    page.get_by_label("Opacity of the class colours").fill(str(percent))


def saved(page, name: str) -> tuple[Path, str]:
    with page.expect_download() as waiting:
        page.locator("#viewer .downloads").get_by_text(name).click()
    assert waiting.value.failure() is None
    return Path(waiting.value.path()), waiting.value.suggested_filename


def bomb(path: Path, side: int) -> Path:
    """A PNG of side × side grey pixels in a few kB."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return pack_bytes(">I", len(content)) + body + pack_bytes(">I", zlib.crc32(body))

    squeeze = zlib.compressobj(9)
    row = bytes(side + 1)
    content = b"".join(squeeze.compress(row) for _ in range(side)) + squeeze.flush()
    header = pack_bytes(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", content), chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


def test_the_overlay_follows_opacity_and_classes_without_asking_the_server(open_page, street, demo):
    page = segmented(open_page(), street)
    image, class_map = read_image(street), Predictor(demo.tiny, device="cpu")(street).class_map
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))

    set_opacity(page, 0)
    # the browser got the image as a JPEG
    plain = pixels(page).astype(int)
    assert plain.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(plain - image).mean() < 6

    set_opacity(page, 100)
    palette = np.array(Predictor(demo.tiny, device="cpu").labels.palette)
    np.testing.assert_array_equal(pixels(page), palette[class_map])

    largest = int(np.bincount(class_map.ravel()).argmax())
    row = page.locator(f"#viewer tr[data-id='{largest}']")
    row.get_by_role("checkbox").uncheck()
    shown = pixels(page)
    np.testing.assert_array_equal(shown[class_map == largest], plain[class_map == largest])
    others = class_map != largest
    np.testing.assert_array_equal(shown[others], palette[class_map[others]])

    page.get_by_role("button", name="none", exact=True).click()
    np.testing.assert_array_equal(pixels(page), plain)
    assert [url for url in asked if "/queue/join" in url] == []


def test_classes_are_listed_with_their_shares_and_named_under_the_pointer(open_page, street, demo):
    page = segmented(open_page(), street)
    found = Predictor(demo.tiny, device="cpu")(street)
    shares = {name: share for name, share in found.shares().items() if share}
    names = page.locator("#viewer tbody th").all_inner_texts()
    assert [name.strip() for name in names] == sorted(shares, key=shares.get, reverse=True)
    canvas = page.locator("#viewer canvas")
    box = canvas.bounding_box()
    y, x = HEIGHT // 3, WIDTH // 2
    canvas.hover(
        position={"x": (x + 0.5) * box["width"] / WIDTH, "y": (y + 0.5) * box["height"] / HEIGHT}
    )
    expected = found.labels.names[found.class_map[y, x]]
    assert page.locator("#viewer .tip").inner_text().startswith(f"{expected} ·")


def test_the_figures_and_the_comparison_with_the_twin(open_page, street, demo):
    page = segmented(open_page(), street)
    figures = page.locator("#viewer .figures").inner_text()
    assert f"{demo.tiny.stat().st_size / 1e3:.0f} kB" in figures
    for name in ("network", "pre-processing", "upsampling", "drawing", "smaller", "fp32"):
        assert name in figures
    page.locator("#pair img").first.wait_for()
    # the other model has no twin
    page.get_by_label("Model").click()
    page.get_by_role("option", name=re.compile("^alone")).click()
    page.locator("#viewer .figures").get_by_text("alone").wait_for()
    page.locator("#pair").wait_for(state="hidden")


def test_downloads_are_what_was_found_and_what_is_seen(open_page, street, demo):
    page = segmented(open_page(), street)
    found = Predictor(demo.tiny, device="cpu")(street)
    file, name = saved(page, "Class ids")
    assert name == "my street_ids.png"
    np.testing.assert_array_equal(read_mask(file), found.class_map)
    set_opacity(page, 35)
    file, name = saved(page, "Overlay")
    assert name == "my street_overlay.png"
    np.testing.assert_array_equal(read_image(file), pixels(page))
    file, name = saved(page, "Figures")
    figures = json.loads(file.read_text())
    assert figures["model"] == "tiny"
    assert sum(each["share"] for each in figures["classes"]) == pytest.approx(1)


def test_an_example_is_segmented_by_keyboard(open_page):
    page = open_page()
    example = page.get_by_role("button", name="Example 2")
    example.focus()
    page.keyboard.press("Enter")
    page.locator(RESULT).wait_for()
    slider = page.get_by_label("Opacity of the class colours")
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert slider.input_value() == "61"
    assert slider.evaluate("element => getComputedStyle(element).outlineStyle") == "solid"
    box = page.locator("#viewer tbody").get_by_role("checkbox").first
    box.focus()
    page.keyboard.press("Space")
    assert not box.is_checked()


def test_an_image_that_cannot_be_used_is_explained(open_page, tmp_path, street, demo):
    buffer = BytesIO()
    Image.fromarray(draw_scene(0, 0, (200, 200)).image).save(buffer, "JPEG")
    (tmp_path / "truncated.jpg").write_bytes(buffer.getvalue()[:2000])
    (tmp_path / "text.png").write_text("this is no image")
    Image.new("RGB", (1, 2000)).save(tmp_path / "thin.png")
    bomb(tmp_path / "huge.png", 13_000)
    page = open_page()
    for name in ("truncated.jpg", "text.png", "thin.png", "huge.png"):
        upload(page, tmp_path / name)
        alert = page.locator("#viewer [role=alert]")
        alert.get_by_text(name).wait_for()
        text = alert.inner_text()
        assert len(text) < 200
        for folder in (demo.tiny.parent, Path.cwd(), "binseg-demo-"):
            assert str(folder) not in text
        page.locator("#image").get_by_label("Clear").or_(
            page.locator("#image").get_by_label("Remove Image")
        ).first.click()
        page.locator("#viewer [role=status]").wait_for()
    segmented(page, street)


def write_video(path: Path, frames: int, size: tuple[int, int] = (64, 96)) -> Path:
    code = cv2.VideoWriter.fourcc(*"VP80")
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, code, 10, size[::-1])
    scenes = [draw_scene(1, index, size).image[..., ::-1] for index in range(5)]
    for index in range(frames):
        writer.write(np.ascontiguousarray(scenes[index % 5]))
    writer.release()
    return path


def segment_video(page, path: Path) -> None:
    page.locator("#video input[type=file]").set_input_files(path)
    page.locator("#video video").wait_for(state="attached")
    page.locator("#start").click()


def test_a_video_is_segmented_and_a_broken_one_is_explained(open_page, tmp_path):
    page = open_page()
    page.get_by_role("tab", name="Video").click()
    path = write_video(tmp_path / "drive.webm", 5)
    segment_video(page, path)
    page.locator("#about-video").get_by_text("Done.").wait_for()
    video = page.locator("#segmented video")
    video.wait_for()
    page.wait_for_function("document.querySelector('#segmented video').readyState >= 2")
    size = video.evaluate("element => [element.videoWidth, element.videoHeight]")
    assert size == [96, 64]
    broken = tmp_path / "broken.webm"
    broken.write_bytes(path.read_bytes()[:60])
    page.get_by_label("Clear").first.click()
    segment_video(page, broken)
    page.locator("#about-video").get_by_text("broken.webm").wait_for()


def test_a_stopped_video_shows_what_was_done(open_page, tmp_path):
    page = open_page()
    page.get_by_role("tab", name="Video").click()
    # frames so large that the last one comes long after the first sign of progress
    segment_video(page, write_video(tmp_path / "long.webm", 300, (480, 640)))
    page.locator("#segmented").get_by_text("frames").wait_for()
    page.locator("#stop").click()
    page.locator("#about-video").get_by_text("Stopped").wait_for()
    page.wait_for_function("document.querySelector('#segmented video')?.readyState >= 2")
    assert page.locator("#segmented video").evaluate("element => element.duration") < 29


def test_the_explanation_has_every_layer(open_page):
    page = open_page()
    page.get_by_role("tab", name="How it works").click()
    page.locator("#network tfoot").wait_for()
    assert page.locator("#network tbody tr").count() > 10
    assert page.locator("#weights svg rect").count() > 100
    assert "one bit" in page.locator("#explanation").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_everything_without_scrolling_sideways(open_page, street, scheme):
    page = open_page(viewport={"width": 390, "height": 844}, color_scheme=scheme)
    segmented(page, street)
    parts = {"Image": "#viewer canvas", "Video": "#start", "How it works": "#network tfoot"}
    for tab, part in parts.items():
        page.get_by_role("tab", name=tab).click()
        page.locator(part).wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.get_by_role("tab", name="Image").click()
    paper, ink = page.evaluate("""() => {
        const style = getComputedStyle(document.querySelector("#viewer h3"));
        return [getComputedStyle(document.body).backgroundColor, style.color];
    }""")
    dark, light = (sum(map(int, re.findall(r"\d+", color)[:3])) for color in (paper, ink))
    assert (dark < light) == (scheme == "dark")
    assert abs(dark - light) > 380
