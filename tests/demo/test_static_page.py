"""Networks in a page: the WebAssembly module in node, and the page in Chromium."""

import importlib.util
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from demo_models import write_tiny
from firefox import find_firefox, firefox_page
from node_flags import node_flags
from PIL import Image
from small_packed import halves, write_small_packed
from test_demo_browser import write_video

from binseg.cli.main import main
from binseg.data.imageio import read_image, read_mask, write_image
from binseg.data.scenes import draw_scene
from binseg.export.page import MODULES, WEB
from binseg.inference.packed import PackedNetwork
from binseg.shipped import shipped_models

ROOT = Path(__file__).parents[2]
SHIPPED = sorted(shipped_models())
SIZES = ((75, 101), (360, 480), (131, 57))
_RUN = """
const { readFileSync, writeFileSync } = require("node:fs");
const Binseg = require(process.argv[2]);
const jobs = JSON.parse(readFileSync(0, "utf8"));
const answer = async ({ wasm, model, images }) => {
  const network = await Binseg.open(readFileSync(wasm), readFileSync(model));
  return images.map(({ rgba, width, height, out }) => {
    try {
      const data = new Uint8ClampedArray(readFileSync(rgba));
      writeFileSync(out, network.segment({ data, width, height }));
      return "";
    } catch (error) {
      return error.message;
    }
  });
};
(async () => {
  const answers = [];
  for (const job of jobs) answers.push(await answer(job).catch((error) => error.message));
  console.log(JSON.stringify(answers));
})();
"""


def in_node(folder: Path, jobs: list[dict]) -> list:
    """What binseg.js gives for each job: an error for each image ("" if none), or of opening."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    (folder / "run.cjs").write_text(_RUN)
    done = subprocess.run(
        ["node", *node_flags(), str(folder / "run.cjs"), str(WEB / "binseg.js")],
        input=json.dumps(jobs),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def best_module(folder: Path, *, flags: Sequence[str] | None = None) -> str:
    """What `Binseg.module()` says in node."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    script = folder / "module.cjs"
    script.write_text(f"console.log(require({json.dumps(str(WEB / 'binseg.js'))}).module())")
    command = ["node", *(node_flags() if flags is None else flags), str(script)]
    return subprocess.check_output(command, text=True).strip()


def test_the_probe_finds_the_fastest_module_that_is_exact(tmp_path):
    flags = node_flags()
    if not flags:
        pytest.skip("node is not installed, or needs no flag")
    assert best_module(tmp_path, flags=[]) == "binseg.wasm"  # no such instructions
    assert best_module(tmp_path, flags=[*flags, "--no-enable-fma3"]) == "binseg.wasm"
    if "fma" in Path("/proc/cpuinfo").read_text().split():
        assert best_module(tmp_path) == "binseg-x86.wasm"


def stored(folder: Path, name: str, image: np.ndarray) -> dict:
    """An RGBA or RGB image as a job's."""
    height, width, channels = image.shape
    if channels == 3:
        image = np.dstack([image, np.full((height, width), 255, np.uint8)])
    image.tofile(folder / f"{name}.rgba")
    rgba, out = str(folder / f"{name}.rgba"), str(folder / f"{name}.ids")
    return {"rgba": rgba, "width": width, "height": height, "out": out}


def same_as_library(folder: Path, wasm: Path) -> None:
    """The class maps of the shipped networks are those of the native library."""
    scenes = [draw_scene(4, index, size).image for index, size in enumerate(SIZES)]
    jobs = []
    for name in SHIPPED:
        images = [stored(folder, f"{name}{at}", image) for at, image in enumerate(scenes)]
        model = str(shipped_models()[name].path)
        jobs.append({"wasm": str(wasm), "model": model, "images": images})
    assert in_node(folder, jobs) == [["", "", ""]] * len(SHIPPED)
    for name, job in zip(SHIPPED, jobs, strict=True):
        network = PackedNetwork(name, threads=1)
        for scene, image in zip(scenes, job["images"], strict=True):
            expected = network.class_map(scene)
            assert len(np.unique(expected)) > 1
            found = np.fromfile(image["out"], np.uint8).reshape(expected.shape)
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("module", MODULES)
def test_the_module_gives_the_librarys_class_maps(tmp_path, module):
    if module != MODULES[0] and best_module(tmp_path) == MODULES[0]:
        pytest.skip("this machine or this node has no fused multiply-add")
    same_as_library(tmp_path, WEB / module)


def build_tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_wasm", ROOT / "tools" / "build_wasm.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


@pytest.mark.slow
def test_the_module_can_be_built_and_gives_the_same(tmp_path):
    tool = build_tool()
    if (why := tool.missing()) is not None:
        pytest.skip(why)
    # one of them: they are made of nearly the same sources, a minute each
    tool.build(tmp_path / "built.wasm", best_module(tmp_path))
    same_as_library(tmp_path, tmp_path / "built.wasm")


def test_the_parts_are_small():
    import gzip

    for module in MODULES:
        assert len(gzip.compress((WEB / module).read_bytes(), 9)) <= 75_000
    assert (WEB / "binseg.js").stat().st_size < 5_000


def test_faults_are_the_librarys_words_and_the_next_image_goes_through(tmp_path):
    good = write_small_packed(tmp_path / "small.safetensors")
    content = good.read_bytes()
    (tmp_path / "short.safetensors").write_bytes(content[:-7])
    (tmp_path / "foreign.safetensors").write_bytes(b"this is no network at all")
    thin = write_small_packed(tmp_path / "thin.safetensors", short_side=300)
    strip = np.zeros((1, 60_000, 3), np.uint8)
    wrong = {**stored(tmp_path, "wrong", halves(4, 4)), "width": 5}
    job = {"wasm": str(WEB / "binseg.wasm"), "images": [stored(tmp_path, "x", halves(6, 8))]}
    jobs = [
        {**job, "model": str(tmp_path / "short.safetensors")},
        {**job, "model": str(tmp_path / "foreign.safetensors")},
        {**job, "model": str(good), "images": [wrong, *job["images"]]},
        {**job, "model": str(thin), "images": [stored(tmp_path, "y", strip), *job["images"]]},
    ]
    short, foreign, odd, strips = in_node(tmp_path, jobs)
    from binseg.errors import BinsegError
    from binseg.runtime.library import Network

    for path, found in (("short", short), ("foreign", foreign)):
        with pytest.raises(BinsegError) as error:
            Network((tmp_path / f"{path}.safetensors").read_bytes())
        assert found == str(error.value)
    assert odd == ["the image's bytes do not fit its size", ""]
    with pytest.raises(BinsegError) as error:
        Network(thin.read_bytes()).segment(strip)
    assert strips == [str(error.value), ""]
    classes = np.fromfile(tmp_path / "x.ids", np.uint8).reshape(6, 8)
    np.testing.assert_array_equal(classes, np.repeat([[0] * 4 + [1] * 4], 6, axis=0))


def test_transparent_parts_lie_on_white(tmp_path):
    from binseg.data.imageio import over_white

    network = write_small_packed(tmp_path / "small.safetensors")
    rgba = np.random.default_rng(0).integers(0, 256, (64, 64, 4)).astype(np.uint8)
    image = stored(tmp_path, "mixed", rgba)
    wasm = str(WEB / "binseg.wasm")
    assert in_node(tmp_path, [{"wasm": wasm, "model": str(network), "images": [image]}]) == [[""]]
    expected = PackedNetwork(network).class_map(over_white(Image.fromarray(rgba, "RGBA")))
    np.testing.assert_array_equal(np.fromfile(image["out"], np.uint8), expected.ravel())


def test_what_cannot_be_on_a_page_is_refused(tmp_path, capsys):
    small = write_small_packed(tmp_path / "small.safetensors")
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.txt").write_text("mine")
    write_image(tmp_path / "x.tif", halves(20, 20))
    page = ("export", str(small), "--format", "page", "--out")
    for arguments, words in (
        ((*page, str(full)), "holds other files"),
        ((*page, str(full / "thesis.txt")), "a file; give a folder"),
        (("export", str(small), *page[1:], str(tmp_path / "a.html")), "a network of that name"),
        ((*page, str(tmp_path / "a.html"), "--examples", str(tmp_path / "x.tif")), "TIFF"),
        (("export", str(tmp_path / "no.safetensors"), *page[2:], str(full)), "no.safetensors"),
        (("export", str(small), str(small), "--out", "x.onnx"), "takes one model"),
    ):
        assert main(list(arguments)) != 0
        error = capsys.readouterr().err.strip()
        assert words in error
        assert "\n" not in error
    assert [path.name for path in full.iterdir()] == ["thesis.txt"]
    assert not (tmp_path / "a.html").exists()


pytest.importorskip("playwright.sync_api")


@pytest.fixture(scope="module")
def page_file(tmp_path_factory) -> Path:
    """A page of one file with three networks, the first of which learned from drawn scenes."""
    folder = tmp_path_factory.mktemp("page")
    small = write_small_packed(folder / "halves.safetensors")
    models = [str(write_tiny(folder, twin=False)), str(small), "camvid-small"]
    assert main(["export", *models, "--format", "page", "--out", str(folder / "page.html")]) == 0
    return folder / "page.html"


@pytest.fixture
def open_page(browser):
    """A function that opens a page, which may ask no other host for anything, nor log an error."""
    asked, faults, contexts = [], [], []

    def open_page(address: str, **options):
        context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(120_000)
        own = (address, "blob:", "data:")
        page.on(
            "request", lambda sent: asked.append(sent.url) if not sent.url.startswith(own) else 0
        )
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda said: faults.append(said.text) if said.type == "error" else 0)
        page.goto(address)
        page.locator("#stage[data-state=result]").wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert asked == []
    assert faults == []


def give(page, path: Path) -> None:
    page.locator("#file").set_input_files(path)


def segmented(page, path: Path):
    give(page, path)
    page.locator("#message[role=status]").get_by_text(f"{path.name}: ").wait_for()


def class_map(page) -> np.ndarray:
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Class PNG").click()
    return read_mask(Path(waiting.value.path()))


def predicted(tmp_path: Path, model: str, image: Path) -> np.ndarray:
    assert main(["predict", model, str(image), "--out", str(tmp_path / "out")]) == 0
    return read_mask(tmp_path / "out" / f"{image.stem}.png")


def test_an_image_dropped_on_the_file_is_segmented_as_by_predict(open_page, page_file, tmp_path):
    street = tmp_path / "my street.png"
    write_image(street, draw_scene(3, 1, (150, 202)).image)
    page = open_page(page_file.as_uri())
    assert page.locator("#message").inner_text() == "drawn scene.png: 480 × 360 pixels"
    page.get_by_label("Network").select_option("camvid-small")
    page.locator("#message").get_by_text("camvid-small learned from photographs").wait_for()
    assert page.locator("#stage[data-state=empty]").is_visible()
    page.evaluate(
        """async (bytes) => {
          const files = new DataTransfer();
          files.items.add(new File([new Uint8Array(bytes)], "my street.png"));
          document.dispatchEvent(new DragEvent("drop", { dataTransfer: files }));
        }""",
        list(street.read_bytes()),
    )
    page.locator("#message[role=status]").get_by_text("my street.png: 202 × 150").wait_for()
    expected = predicted(tmp_path, "camvid-small", street)
    np.testing.assert_array_equal(class_map(page), expected)
    assert "academic research" in page.locator("#terms").inner_text()
    size = shipped_models()["camvid-small"].path.stat().st_size
    assert page.locator("#bytes").inner_text() == f"{size / 1e6:.2f} MB"
    assert page.locator("#milliseconds").inner_text().endswith(" ms")
    assert page.locator("#cores").inner_text() == "1"


def test_a_photograph_goes_to_a_network_that_knows_photographs(open_page, page_file, tmp_path):
    write_image(tmp_path / "own.png", halves(60, 80))
    page = open_page(page_file.as_uri())
    chosen = page.get_by_label("Network")
    assert chosen.input_value() == "tiny"
    give(page, tmp_path / "own.png")
    words = "own.png: 80 × 60 pixels; segmented by halves, as tiny knows drawn streets"
    page.locator("#message[role=status]").get_by_text(words).wait_for()
    assert chosen.input_value() == "halves"
    assert page.locator("#legend tr:visible").all_inner_texts() == ["dark\n50 %", "bright\n50 %"]
    chosen.select_option("tiny")
    page.locator("#message[role=status]").get_by_text(re.compile("pixels$")).wait_for()
    assert chosen.input_value() == "tiny"


def test_a_jpeg_is_segmented_as_by_predict_also_when_it_is_turned(open_page, page_file, tmp_path):
    turned = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(draw_scene(3, 2, (120, 160)).image).save(turned, quality=90, exif=exif)
    page = open_page(page_file.as_uri())
    page.get_by_label("Network").select_option("halves")
    segmented(page, turned)
    found = class_map(page)
    assert found.shape == (160, 120)
    model = str(page_file.parent / "halves.safetensors")
    np.testing.assert_array_equal(found, predicted(tmp_path, model, turned))


def test_classes_have_shares_light_up_and_can_be_isolated(open_page, page_file, tmp_path):
    write_image(tmp_path / "halves.png", halves(60, 80))
    page = open_page(page_file.as_uri())
    page.get_by_label("Network").select_option("halves")
    segmented(page, tmp_path / "halves.png")
    assert page.locator("#legend tr:visible").all_inner_texts() == ["dark\n50 %", "bright\n50 %"]
    opacities = """() => {
      const canvas = document.getElementById("classes");
      const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, 1).data;
      return [data[3], data[4 * canvas.width - 1]];
    }"""
    assert page.evaluate(opacities) == [255, 255]
    box = page.locator("#classes").bounding_box()
    page.locator("#classes").hover(position={"x": box["width"] / 4, "y": box["height"] / 2})
    assert page.locator("#tip").inner_text() == "dark · 50 %"
    assert page.evaluate(opacities) == [255, 70]
    page.locator("#classes").click(position={"x": 3 * box["width"] / 4, "y": box["height"] / 2})
    assert page.evaluate(opacities) == [0, 255]
    pressed = page.get_by_role("button", name="bright")
    assert pressed.get_attribute("aria-pressed") == "true"
    pressed.press("Enter")
    page.mouse.move(0, 0)
    assert page.evaluate(opacities) == [255, 255]
    page.get_by_label("Opacity").fill("0")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Overlay").click()
    assert waiting.value.suggested_filename == "halves_overlay.png"
    np.testing.assert_array_equal(read_image(waiting.value.path()), halves(60, 80))


def test_what_cannot_be_used_is_said_in_words(open_page, page_file, tmp_path):
    scene = draw_scene(0, 0, (200, 200)).image
    Image.fromarray(scene).save(tmp_path / "cut.jpg")
    Image.fromarray(scene).save(tmp_path / "cut.png")
    for name in ("cut.jpg", "cut.png"):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:2000])
    (tmp_path / "text.png").write_text("this is no image")
    Image.new("RGB", (1, 2000)).save(tmp_path / "thin.png")
    Image.new("1", (13_000, 13_000)).save(tmp_path / "huge.png")
    model = (page_file.parent / "halves.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(model[:-9])
    (tmp_path / "drive.webm").write_bytes(b"\x1aE\xdf\xa3 and nothing more")
    page = open_page(page_file.as_uri())
    for name, words in {
        "cut.jpg": "damaged or truncated image",
        "cut.png": "damaged or truncated image",
        "text.png": "not an image that binseg reads",
        "thin.png": "1 x 2000 pixels are a strip too thin to segment; cut a wider piece from it",
        "huge.png": "13000 × 13000 pixels are more than the limit of 50,000,000; make the image "
        "smaller or cut it into tiles",
        "cut.safetensors": "",
        "drive.webm": "not a video that this browser plays",
    }.items():
        give(page, tmp_path / name)
        page.locator("#message[role=alert]").get_by_text(f"{name}: {words}").wait_for()
    write_image(tmp_path / "good.png", scene)
    segmented(page, tmp_path / "good.png")


def live(page) -> None:
    page.locator("#fps").get_by_text(re.compile(r"^\d")).wait_for()
    assert int(page.locator("#cores").inner_text()) >= 1
    page.get_by_role("button", name="Stop").click()
    page.locator("#rate").wait_for(state="hidden")


def test_the_camera_is_segmented_live(open_page, page_file):
    page = open_page(page_file.as_uri(), permissions=["camera"])
    page.get_by_role("button", name="Camera").click()
    live(page)


def test_a_video_is_segmented_live(open_page, page_file, tmp_path):
    page = open_page(page_file.as_uri())
    give(page, write_video(tmp_path / "drive.webm", 40))
    live(page)
    assert [page.locator("#image").get_attribute(side) for side in ("width", "height")] == [
        "96",
        "64",
    ]


def test_a_folder_on_a_static_host(open_page, tmp_path):
    write_image(tmp_path / "own.png", halves(30, 60))
    small = write_small_packed(tmp_path / "small.safetensors")
    out, own = str(tmp_path / "site"), str(tmp_path / "own.png")
    for _ in range(2):  # also over an earlier page
        assert (
            main(["export", str(small), "--format", "page", "--out", out, "--examples", own]) == 0
        )
    handler = partial(SimpleHTTPRequestHandler, directory=out)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = open_page(f"http://127.0.0.1:{server.server_port}/")
        assert page.locator("#message").inner_text() == "own.png: 60 × 30 pixels"
        assert page.locator("#choice").is_hidden()
        server.shutdown()


@pytest.fixture
def site(tmp_path) -> Iterator[str]:
    """The address of a page with two networks, on a static host."""
    models = [str(write_small_packed(tmp_path / "small.safetensors")), "camvid-small"]
    folder = tmp_path / "site"
    write_image(tmp_path / "own.png", halves(30, 60))
    options = ["--format", "page", "--out", str(folder), "--examples", str(tmp_path / "own.png")]
    assert main(["export", *models, *options]) == 0
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_an_image_waits_for_the_file_of_the_network_that_was_chosen(open_page, site, tmp_path):
    street = tmp_path / "street.png"
    write_image(street, draw_scene(3, 1, (150, 202)).image)
    page = open_page(site)
    held = []
    page.route("**/camvid-small.safetensors", lambda route: held.append(route))
    page.get_by_label("Network").select_option("camvid-small")
    give(page, street)
    page.locator("#message").get_by_text("street.png …").wait_for()
    while not held:
        page.wait_for_timeout(20)
    held[0].continue_()
    page.locator("#message[role=status]").get_by_text("street.png: 202 × 150").wait_for()
    np.testing.assert_array_equal(class_map(page), predicted(tmp_path, "camvid-small", street))


def test_a_network_that_does_not_open_leaves_the_one_that_is_open(open_page, site, tmp_path):
    page = open_page(site)
    page.route("**/camvid-small.safetensors", lambda route: route.fulfill(status=200, body=b""))
    page.get_by_label("Network").select_option("camvid-small")
    page.locator("#message[role=alert]").get_by_text("camvid-small: ").wait_for()
    assert page.get_by_label("Network").input_value() == "small"
    write_image(tmp_path / "next.png", halves(20, 40))
    segmented(page, tmp_path / "next.png")


def test_firefox_gives_the_same(page_file, tmp_path):
    if (path := find_firefox()) is None:
        pytest.skip("Firefox is not installed")
    street = tmp_path / "street.png"
    write_image(street, draw_scene(3, 1, (150, 202)).image)
    with firefox_page(path) as page:
        page.goto(page_file.as_uri())
        page.wait_for("shown")
        assert page.evaluate("part('message').textContent") == "drawn scene.png: 480 × 360 pixels"
        page.set_files("#file", street)
        page.wait_for("shown.name === 'street.png'")
        found = np.array(page.evaluate("Array.from(shown.classes)"), np.uint8)
    expected = predicted(tmp_path, str(page_file.parent / "halves.safetensors"), street)
    assert len(np.unique(expected)) > 1
    np.testing.assert_array_equal(found, expected.ravel())


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_the_result_first_and_nothing_sideways(open_page, page_file, scheme):
    page = open_page(page_file.as_uri(), color_scheme=scheme)
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    box = page.locator("#classes").bounding_box()
    assert box["y"] + box["height"] < 844
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    dark = sum(map(int, paper[4:-1].split(","))) < 3 * 128
    assert dark == (scheme == "dark")
