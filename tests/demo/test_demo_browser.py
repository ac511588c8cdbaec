"""The demo's page in a real browser."""

import json
import re
import zlib
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from struct import pack as pack_bytes

import cv2
import numpy as np
import pytest
from PIL import Image

from binseg.data.imageio import read_image, read_mask, write_image
from binseg.data.scenes import draw_scene
from binseg.predictor import Predictor

TimeoutError = pytest.importorskip("playwright.sync_api").TimeoutError

HEIGHT, WIDTH = 75, 101
RESULT = "#viewer .stage[data-state=result]"
CLASSES = '#viewer [data-part="classes"]'
PIXELS = """(part) => {
  const canvas = document.querySelector(`#viewer [data-part="${part}"]`);
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  return { width: canvas.width, height: canvas.height, data: Array.from(data) };
}"""


@pytest.fixture(scope="module")
def desktop(browser):
    """One for most tests, so that gradio's files are read and compiled once."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 900}, permissions=["camera"], reduced_motion="reduce"
    )
    yield context
    context.close()


@pytest.fixture
def open_page(browser, desktop, demo):
    """A function that opens a demo and waits for its first result; the page may ask no other
    host for anything."""
    opened, foreign, own = [], [], ["data:", "blob:"]

    def note(request) -> None:
        if not request.url.startswith(tuple(own)):
            foreign.append(request.url)

    def open_page(address=demo.address, **options):
        own.append(address)
        context = browser.new_context(**options) if options else desktop
        page = context.new_page()
        opened.append(context if options else page)
        page.set_default_timeout(120_000)
        page.on("request", note)
        page.goto(address)
        page.locator(RESULT).wait_for()
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
    clear = (
        page.locator("#image")
        .get_by_label("Clear")
        .or_(page.locator("#image").get_by_label("Remove Image"))
    )
    if clear.count():
        clear.first.click()
    page.locator("#image input[type=file]").set_input_files(path)


def segmented(page, path: Path):
    upload(page, path)
    page.locator(f'{CLASSES}[aria-label^="{path.stem}"]').wait_for()
    return page


def pixels(page, part: str = "classes") -> np.ndarray:
    """What a canvas holds, HWC uint8 RGBA."""
    found = page.evaluate(PIXELS, part)
    flat = np.array(found["data"], np.uint8)
    return flat.reshape(found["height"], found["width"], 4)


def colors(page, count: int) -> np.ndarray:
    """The legend's colours by class, (count, 3)."""
    found = page.locator("#viewer [data-part=legend] tr").evaluate_all(
        """rows => Object.fromEntries(rows.map(row =>
          [row.dataset.id, getComputedStyle(row.querySelector(".swatch")).backgroundColor]))"""
    )
    return np.array([[int(v) for v in re.findall(r"\d+", found[str(i)])] for i in range(count)])


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


def at(page, y: int, x: int) -> dict[str, float]:
    """The place of a pixel of the class map on its canvas."""
    box = page.locator(CLASSES).bounding_box()
    return {"x": (x + 0.5) * box["width"] / WIDTH, "y": (y + 0.5) * box["height"] / HEIGHT}


def test_the_page_starts_with_a_drawn_scene_and_three_figures(open_page, demo):
    page = open_page()
    assert page.locator(CLASSES).get_attribute("aria-label").startswith("scene_1: ")
    figures = {
        row.locator("dt").inner_text(): row.locator("dd").inner_text()
        for row in page.locator("#viewer .trio div:visible").all()
    }
    assert figures["model file"] == f"{demo.tiny.stat().st_size / 1e6:.2f} MB"
    assert re.fullmatch(r"[\d.]+ ms", figures["image to class map"])
    assert int(figures.get("core", figures.get("cores"))) >= 1


def test_the_overlay_follows_pointer_and_clicks_without_asking_the_server(open_page, street, demo):
    page = segmented(open_page(), street)
    found = Predictor(demo.tiny, device="cpu")(street)
    class_map = found.class_map
    page.locator("#viewer [data-part=modes]").wait_for()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))

    # the browser got the image as a JPEG
    assert np.abs(pixels(page, "image")[..., :3].astype(int) - found.image).mean() < 6
    table = colors(page, found.labels.num_classes)
    assert len({tuple(color) for color in table}) == len(table)
    shown = pixels(page)
    np.testing.assert_array_equal(shown[..., :3], table[class_map])
    assert (shown[..., 3] == 255).all()

    y, x = HEIGHT // 3, WIDTH // 2
    under = class_map == class_map[y, x]
    name = found.labels.names[class_map[y, x]]
    page.locator(CLASSES).hover(position=at(page, y, x))
    tip = page.locator("#viewer .tip").inner_text()
    assert tip.startswith(f"{name} ·")
    shown = pixels(page)[..., 3]
    assert (shown[under] == 255).all()
    assert (shown[~under] < 128).all()

    page.locator(CLASSES).click(position=at(page, y, x))
    row = page.locator("#viewer .legend").get_by_role("button", name=name)
    assert row.get_attribute("aria-pressed") == "true"
    page.mouse.move(0, 0)
    np.testing.assert_array_equal(pixels(page)[..., 3], 255 * under)
    # rows do the same, by keyboard, too
    row.press("Enter")
    assert (pixels(page)[..., 3] == 255).all()
    page.get_by_label("Opacity of the class colours").fill("0")
    assert page.locator(CLASSES).evaluate("canvas => canvas.style.opacity") == "0"
    assert [url for url in asked if "/queue/join" in url or "/segment" in url] == []


def test_the_legend_has_the_shares(open_page, street, demo):
    page = segmented(open_page(), street)
    shares = Predictor(demo.tiny, device="cpu")(street).shares()
    present = sorted((name for name in shares if shares[name]), key=lambda name: -shares[name])
    names = page.locator("#viewer .legend tr:visible .name").all_inner_texts()
    assert [shares[name] for name in names] == [shares[name] for name in present]
    absent = page.locator("#viewer [data-part=absent]").inner_text()
    assert all(name in absent for name in shares if not shares[name])


def test_beside_its_full_precision_twin(open_page, street, demo):
    page = segmented(open_page(), street)
    page.locator("#viewer [data-part=modes]").wait_for()
    twin = demo.tiny.with_name("tiny.twin.safetensors")
    own, other = (Predictor(each, device="cpu")(street) for each in (demo.tiny, twin))
    table = colors(page, own.labels.num_classes)
    agreement = (own.class_map == other.class_map).mean()
    compared = page.locator("#viewer [data-part=compared]").inner_text()
    assert 0 < agreement < 1
    assert re.search(rf"at {100 * agreement:.0f}\.?\d* %", compared), (agreement, compared)
    assert "smaller than in fp32" in compared

    page.get_by_role("button", name="1 bit | full precision").click()
    slider = page.get_by_label("Border between 1 bit and full precision")
    for share in (0, 250, 1000):
        slider.fill(str(share))
        left = np.arange(WIDTH) < share / 1000 * WIDTH
        expected = np.where(left, own.class_map, other.class_map)
        np.testing.assert_array_equal(pixels(page)[..., :3], table[expected])

    page.get_by_role("button", name="Where they differ").click()
    lit = pixels(page)[..., :3].max(axis=-1) > 0
    np.testing.assert_array_equal(lit, own.class_map != other.class_map)

    page.get_by_role("button", name="Race").click()
    lanes = page.locator("#viewer .lanes p")
    for lane in (0, 1):
        lanes.nth(lane).get_by_text("frames a second").wait_for()
    page.get_by_role("button", name="Race").click()  # enough
    page.locator("#viewer [data-part=race][aria-pressed=false]").wait_for()
    for text, title in zip(lanes.all_inner_texts(), ("1 bit", "full precision"), strict=True):
        assert re.fullmatch(rf"{title}: [\d.]+ frames a second, \d+ in [\d.]+ s", text)


def choose(page, name: str) -> None:
    page.get_by_label("Model").click()
    page.get_by_role("option", name=re.compile(f"^{name}")).click()


def test_a_photograph_goes_to_a_model_that_knows_photographs(open_page, demo_of_both, street):
    page = open_page(demo_of_both)
    model = page.get_by_label("Model")
    assert model.input_value().startswith("tiny")
    segmented(page, street)
    notes = page.locator("#viewer [data-part=notes]")
    notes.get_by_text("segmented by photos; tiny knows drawn streets").wait_for()
    assert model.input_value().startswith("photos")
    rows = page.locator("#viewer [data-part=legend] tr").count()
    # whoever chooses the other one again gets it
    choose(page, "tiny")
    notes.get_by_text("segmented by").wait_for(state="hidden")
    page.locator(f'{CLASSES}[aria-label^="my street"]').wait_for()
    assert model.input_value().startswith("tiny")
    assert page.locator("#viewer [data-part=legend] tr").count() != rows


def test_examples_follow_the_model(open_page, demo_of_both):
    page = open_page(demo_of_both)
    examples = page.locator("#examples")
    assert examples.is_visible()
    choose(page, "photos")
    page.locator("#viewer .message").get_by_text("photos learned from photographs").wait_for()
    assert page.locator(RESULT).count() == 0
    examples.wait_for(state="hidden")
    choose(page, "tiny")
    page.locator(RESULT).wait_for()
    compared = page.locator("#viewer [data-part=compared]")
    compared.get_by_text("smaller").wait_for()
    second = page.locator(f'{CLASSES}[aria-label^="scene_2"]')
    for _ in range(3):  # gradio loses one that comes while the other model's answer ends
        page.get_by_role("button", name="Example 2").press("Enter")
        with suppress(TimeoutError):
            second.wait_for(timeout=20_000)
            break
    assert second.is_visible()
    # the other model of drawn scenes keeps the image; it has no twin
    choose(page, "alone")
    page.locator("#viewer [data-part=modes]").wait_for(state="hidden")
    compared.get_by_text("smaller").wait_for()
    assert page.locator("#viewer [data-part=modes]").is_hidden()


def test_the_camera_is_segmented_live(open_page):
    page = open_page()
    page.get_by_role("button", name="Camera").click()
    page.locator("#viewer [data-part=fps]").get_by_text(re.compile(r"^\d")).wait_for()
    assert page.locator(CLASSES).get_attribute("aria-label").startswith("camera: ")
    page.get_by_role("button", name="Stop").last.click()
    page.locator("#viewer [data-part=rate]").wait_for(state="hidden")
    assert page.locator(RESULT).is_visible()


def test_downloads_are_what_was_found_and_what_is_seen(open_page, street, demo):
    page = segmented(open_page(), street)
    found = Predictor(demo.tiny, device="cpu")(street)
    file, name = saved(page, "Class ids")
    assert name == "my street_ids.png"
    np.testing.assert_array_equal(read_mask(file), found.class_map)
    # files keep the official palette
    palette = np.array(found.labels.palette)
    np.testing.assert_array_equal(
        np.array(Image.open(file).convert("RGB")), palette[found.class_map]
    )
    page.get_by_label("Opacity of the class colours").fill("100")
    file, name = saved(page, "Overlay")
    assert name == "my street_overlay.png"
    np.testing.assert_array_equal(read_image(file), pixels(page)[..., :3])
    file, name = saved(page, "Figures")
    figures = json.loads(file.read_text())
    assert figures["model"] == "tiny"
    assert sum(each["share"] for each in figures["classes"]) == pytest.approx(1)


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
    segmented(page, street)


def write_video(
    path: Path, frames: int, size: tuple[int, int] = (64, 96), *, scenes: int = 5
) -> Path:
    code = cv2.VideoWriter.fourcc(*"VP80")
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, code, 10, size[::-1])
    drawn = [draw_scene(1, index, size).image[..., ::-1] for index in range(scenes)]
    for index in range(frames):
        writer.write(np.ascontiguousarray(drawn[index % scenes]))
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
    page.locator("#video").get_by_label("Clear").first.click()
    segment_video(page, broken)
    page.locator("#about-video").get_by_text("broken.webm").wait_for()


def test_a_stopped_video_shows_what_was_done(open_page, tmp_path):
    page = open_page()
    page.get_by_role("tab", name="Video").click()
    # frames so large that the last one comes long after the first sign of progress
    segment_video(page, write_video(tmp_path / "long.webm", 300, (480, 640), scenes=1))
    page.locator("#segmented").get_by_text("frames").wait_for()
    page.locator("#stop").click()
    page.locator("#about-video").get_by_text("Stopped").wait_for()
    page.wait_for_function("document.querySelector('#segmented video')?.readyState >= 2")
    assert page.locator("#segmented video").evaluate("element => element.duration") < 29


def test_the_explanation_has_every_layer_and_the_visitors_own_signs(open_page, street):
    page = segmented(open_page(), street)
    page.get_by_role("tab", name="How it works").click()
    page.locator("#network tfoot").wait_for()
    assert page.locator("#network tbody tr").count() > 10
    assert "one bit" in page.locator("#explanation").inner_text()
    assert page.locator("#signs .map img").count() == 8
    assert "are equal: 2 ·" in page.locator("#signs .count").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_the_result_first_and_nothing_sideways(open_page, scheme):
    page = open_page(
        viewport={"width": 390, "height": 844}, color_scheme=scheme, reduced_motion="reduce"
    )
    box = page.locator(CLASSES).bounding_box()
    assert box["y"] + box["height"] < 844
    parts = {"Image": CLASSES, "Video": "#start", "How it works": "#network tfoot"}
    for tab, part in parts.items():
        page.get_by_role("tab", name=tab).click()
        page.locator(part).wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.get_by_role("tab", name="Image").click()
    paper, ink = page.evaluate("""() => {
        const style = getComputedStyle(document.querySelector("#viewer .legend caption"));
        return [getComputedStyle(document.body).backgroundColor, style.color];
    }""")
    dark, light = (sum(map(int, re.findall(r"\d+", color)[:3])) for color in (paper, ink))
    assert (dark < light) == (scheme == "dark")
    assert abs(dark - light) > 380
