"""Compares what networks compute in a tab with `binseg predict`, and times them there.

    python tools/check_page.py data/CamVid/val --models camvid-base camvid-small

All images go through binseg.js in node, with each module, the first ten through the page in
Chromium and in Firefox; of each class map every pixel is compared. Then the page's worker is
timed on one image, one thread.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from playwright.sync_api import sync_playwright

from binseg.data.imageio import read_image
from binseg.export.page import MODULES, WEB, write_page
from binseg.predictor import Predictor
from binseg.shipped import resolve

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "demo"))
from chromium import find_chromium
from firefox import find_firefox, firefox_page
from node_flags import node_flags

_IN_BROWSER = 10
_NODE = """
const { readFileSync, writeFileSync } = require("node:fs");
const Binseg = require(process.argv[2]);
const { wasm, model, images } = JSON.parse(readFileSync(0, "utf8"));
(async () => {
  const network = await Binseg.open(readFileSync(wasm), readFileSync(model));
  for (const { path, width, height } of images) {
    const data = new Uint8ClampedArray(readFileSync(path));
    writeFileSync(path, network.segment({ data, width, height }));
  }
})();
"""
# milliseconds: from a model's bytes to its first class map, and of 40 further ones
_TIMES = """async () => {
  const { data, width, height } = shown.image;
  const image = () => new ImageData(data.slice(), width, height);
  const began = performance.now();
  const worker = startWorker(network.model);
  await worker.ask({ image: image() });
  const first = performance.now() - began;
  const times = [];
  for (let i = 0; i < 40; i++) times.push((await worker.ask({ image: image() })).milliseconds);
  worker.end();
  return [first, ...times];
}"""


def in_node(model: str, paths: list[Path], folder: Path, module: str) -> int:
    """How many images have the same class map in node, with one of the modules."""
    predictor = Predictor(model, device="cpu")
    images, expected = [], []
    for path in paths:
        image = read_image(path)
        height, width = image.shape[:2]
        raw = folder / f"{path.stem}.raw"
        np.dstack([image, np.full((height, width), 255, np.uint8)]).tofile(raw)
        images.append({"path": str(raw), "width": width, "height": height})
        expected.append(predictor(image).class_map)
    (folder / "run.cjs").write_text(_NODE)
    command = ["node", *node_flags(), str(folder / "run.cjs"), str(WEB / "binseg.js")]
    job = {"wasm": str(WEB / module), "model": str(resolve(model)), "images": images}
    subprocess.run(command, input=json.dumps(job), text=True, check=True)
    return sum(
        np.array_equal(np.fromfile(image["path"], np.uint8), classes.ravel())
        for image, classes in zip(images, expected, strict=True)
    )


def in_firefox(model: str, paths: list[Path], page_file: Path) -> tuple[int, list[float]]:
    """How many images have the same class map in Firefox, and the milliseconds there."""
    path = find_firefox()
    if path is None:
        raise SystemExit("Firefox is not installed: apt-get install firefox-esr")
    predictor = Predictor(model, device="cpu")
    same = 0
    with firefox_page(path) as page:
        page.goto(page_file.as_uri())
        page.wait_for("shown")
        for image in paths:
            page.evaluate("(shown = null, 0)")
            page.set_files("#file", image)
            page.wait_for("shown")
            found = np.array(page.evaluate("Array.from(shown.classes)"), np.uint8)
            same += np.array_equal(found, predictor(image).class_map.ravel())
        return same, page.evaluate(f"({_TIMES})()")


def in_chromium(model: str, paths: list[Path], page_file: Path) -> tuple[int, list[float]]:
    """How many images have the same class map in Chromium, and the milliseconds there."""
    predictor = Predictor(model, device="cpu")
    same = 0
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(120_000)
        page.goto(page_file.as_uri())
        for path in paths:
            page.locator("#file").set_input_files(path)
            page.locator("#message[role=status]").get_by_text(f"{path.name}: ").wait_for()
            found = np.array(page.evaluate("Array.from(shown.classes)"), np.uint8)
            same += np.array_equal(found, predictor(path).class_map.ravel())
        times = page.evaluate(_TIMES)
        browser.close()
    return same, times


BROWSERS = {"Chromium": in_chromium, "Firefox": in_firefox}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("images", type=Path, help="a folder")
    parser.add_argument("--models", nargs="+", required=True)
    arguments = parser.parse_args()
    paths = sorted(p for p in arguments.images.iterdir() if p.suffix in (".png", ".jpg"))
    wrong = False
    for model in arguments.models:
        with TemporaryDirectory() as name:
            folder = Path(name)
            for module in MODULES:
                same = in_node(model, paths, folder, module)
                print(
                    f"{model}: {same} of {len(paths)} class maps equal in node, {module}",
                    flush=True,
                )
                wrong |= same < len(paths)
            write_page([model], folder / "page.html", paths[:1])
            few = paths[:_IN_BROWSER]
            height, width = read_image(few[-1]).shape[:2]
            for browser, run in BROWSERS.items():
                there, (first, *times) = run(model, few, folder / "page.html")
                wrong |= there < len(few)
                print(
                    f"{model}: {there} of {len(few)} class maps equal in {browser}; "
                    f"{width} x {height}, ms: first {first:.0f}, then "
                    f"{min(times):.1f} at least, {statistics.median(times):.1f} in the middle",
                    flush=True,
                )
    sys.exit(int(wrong))


if __name__ == "__main__":
    main()
