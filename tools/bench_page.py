"""Times shipped networks in a browser beside their full-precision twins in onnxruntime-web.

    npm install --prefix build/ort onnxruntime-web
    python tools/bench_page.py data/CamVid/val --out docs/results/bench/browser.json

All sides take turns in one page, on one thread each. binseg's time is from the image to its class
map, as a page of one's own sees it; the twins' is of `session.run` alone, from the network's input
to scores on the grid of its head. Their 8 bits are ONNX Runtime's, calibrated on images.
"""

import argparse
import json
import statistics
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from shutil import copy, copytree
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from playwright.sync_api import sync_playwright

from binseg.bench.machine import describe
from binseg.data.imageio import read_image
from binseg.export.onnx_file import as_input, quantize_onnx, write_onnx
from binseg.export.page import MODULES, WEB
from binseg.loaded import load
from binseg.shipped import shipped_models

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "demo"))
from chromium import find_chromium
from firefox import find_firefox, firefox_page

ROOT = Path(__file__).parents[1]
_CALIBRATION = 40
_PAGE = """<!doctype html><meta charset="utf-8"><script src="ort/ort.wasm.min.js"></script>
<script>
const bytes = async (path) => new Uint8Array(await (await fetch(path)).arrayBuffer());
async function run({ model, inputs, rounds, width, height }) {
  ort.env.wasm.numThreads = 1;
  const worker = new Worker("binseg.js");
  const ask = (message) => new Promise((resolve) => {
    worker.onmessage = ({ data }) => resolve(data);
    worker.postMessage(message);
  });
  const { module } = await ask({});
  const data = new Uint8ClampedArray(await bytes("image.rgba"));
  const image = () => new ImageData(data.slice(), width, height);
  const [wasm, file] = [await bytes(module), await bytes(model)];
  const began = performance.now();
  const opened = await ask({ wasm, model: file, image: image() });
  if (opened.error) throw new Error(opened.error);
  const times = { first: [performance.now() - began], binseg: [] };
  const sessions = {};
  for (const [name, path] of Object.entries(inputs.files)) {
    const options = { executionProviders: ["wasm"] };
    sessions[name] = await ort.InferenceSession.create(await bytes(path), options);
    times[name] = [];
  }
  const feed = {};
  if (inputs.image) {
    const values = new Float32Array((await bytes(inputs.image)).buffer);
    feed.image = new ort.Tensor("float32", values, inputs.shape);
  }
  for (let round = 0; round < rounds + 2; round++) {
    const { milliseconds } = await ask({ image: image() });
    if (round > 1) times.binseg.push(milliseconds);
    for (const [name, session] of Object.entries(sessions)) {
      const start = performance.now();
      await session.run(feed);
      if (round > 1) times[name].push(performance.now() - start);
    }
  }
  worker.terminate();
  return { module, times };
}
</script>"""


def prepare(name: str, folder: Path, images: list[np.ndarray]) -> dict[str, Any]:
    """What the page's `run` needs for a shipped network; its files are written into `folder`."""
    shipped = shipped_models()[name]
    copy(shipped.path, folder / shipped.path.name)
    found: dict[str, Any] = {"model": shipped.path.name, "inputs": {"files": {}}}
    if shipped.twin is None:
        return found
    twin = load(shipped.twin)
    seen = [twin.preprocessing.resize(image) for image in images]
    write_onnx(
        folder / f"{name}.onnx", twin.model, twin.labels, twin.preprocessing, upsampled=False
    )
    quantize_onnx(folder / f"{name}.onnx", folder / f"{name}_int8.onnx", seen)
    values = as_input(seen[:1])
    values.tofile(folder / f"{name}.f32")
    found["inputs"] = {
        "files": {"twin, fp32": f"{name}.onnx", "twin, int8": f"{name}_int8.onnx"},
        "image": f"{name}.f32",
        "shape": list(values.shape),
    }
    return found


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def in_chromium(address: str, jobs: dict[str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    """The browser's version, and what `run` gave for each network."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(address)
        found = {name: page.evaluate("(job) => run(job)", job) for name, job in jobs.items()}
        return browser.version, found


def in_firefox(address: str, jobs: dict[str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    """The same in Firefox."""
    path = find_firefox()
    if path is None:
        raise SystemExit("Firefox is not installed: apt-get install firefox-esr")
    with firefox_page(path, seconds=900) as page:
        page.goto(address)
        found: dict[str, Any] = {
            name: page.evaluate(f"run({json.dumps(job)})") for name, job in jobs.items()
        }
        version = str(page.evaluate("navigator.userAgent")).rpartition("/")[2]
    return version, found


BROWSERS = {"chromium": in_chromium, "firefox": in_firefox}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("images", type=Path, help="a folder; the last image is timed")
    parser.add_argument("--ort", type=Path, default=ROOT / "build/ort", help="npm's folder")
    parser.add_argument("--models", nargs="+", default=sorted(shipped_models()))
    parser.add_argument("--browser", choices=BROWSERS, default="chromium")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--out", type=Path, required=True, help="a JSON file")
    arguments = parser.parse_args()
    package = arguments.ort / "node_modules" / "onnxruntime-web"
    if not package.is_dir():
        raise SystemExit(f"{package} is missing: npm install --prefix {arguments.ort} …")
    paths = sorted(p for p in arguments.images.iterdir() if p.suffix in (".png", ".jpg"))
    images = [read_image(path) for path in [paths[-1], *paths[:_CALIBRATION]]]
    height, width = images[0].shape[:2]
    size = {"width": width, "height": height, "rounds": arguments.rounds}
    with TemporaryDirectory(prefix="binseg-bench-") as name:
        folder = Path(name)
        copytree(package / "dist", folder / "ort")
        for part in ("binseg.js", *MODULES):
            copy(WEB / part, folder / part)
        np.dstack([images[0], np.full((height, width), 255, np.uint8)]).tofile(
            folder / "image.rgba"
        )
        (folder / "index.html").write_text(_PAGE)
        jobs = {each: prepare(each, folder, images) | size for each in arguments.models}
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=name))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/index.html"
        version, found = BROWSERS[arguments.browser](address, jobs)
        server.shutdown()
    report = describe()
    report["versions"] |= {
        arguments.browser: version,
        "onnxruntime-web": json.loads((package / "package.json").read_text())["version"],
    }
    report["size"] = [height, width]
    report["rounds"] = arguments.rounds
    report["networks"] = {
        each: {"module": told["module"]} | {side: summary(t) for side, t in told["times"].items()}
        for each, told in found.items()
    }
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    for each, told in report["networks"].items():
        print(each, told)


def summary(times: list[float]) -> dict[str, float]:
    """Milliseconds: the least and the median."""
    return {"least": round(min(times), 2), "median": round(statistics.median(times), 2)}


if __name__ == "__main__":
    main()
