"""The images of the demo and of the static page in docs/: `python tests/demo/screenshots.py`."""

from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from chromium import find_chromium
from PIL import Image
from playwright.sync_api import sync_playwright

from binseg.demo import build
from binseg.demo.serve import launch
from binseg.export.page import write_page

DOCS = Path(__file__).parents[2] / "docs"


def shoot(address: str, path: Path, width: int, height: int, scheme: str) -> None:
    """Write what a screen of this size shows when the page has opened."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        page = browser.new_page(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            reduced_motion="reduce",
        )
        page.goto(address)
        page.locator("#viewer .stage[data-state=result]").wait_for()
        page.locator("#viewer [data-part=modes]").wait_for()
        if width > 800:
            page.get_by_role("button", name="1 bit | full precision").click()
        page.wait_for_timeout(1500)  # the spinner fades
        picture = page.screenshot()
        browser.close()
    _save(picture, path)


def shoot_page(path: Path) -> None:
    """Write the result as the page without a server shows it."""
    with TemporaryDirectory() as folder, sync_playwright() as driver:
        file = Path(folder) / "page.html"
        write_page(["scenes"], file)
        browser = driver.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1000, "height": 700}, color_scheme="light")
        page.goto(file.as_uri())
        page.locator("#stage[data-state=result]").wait_for()
        picture = page.locator("main").screenshot()
        browser.close()
    _save(picture, path)


def _save(picture: bytes, path: Path) -> None:
    # 256 colours are enough for a page, and a third of the bytes
    Image.open(BytesIO(picture)).convert("RGB").quantize(256, kmeans=2).save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")


def main() -> None:
    """The demo on a desktop in light and on a phone in dark colours, and the static page."""
    shoot_page(DOCS / "page.png")
    page = build()
    address = launch(page)
    shoot(address, DOCS / "demo_desktop.png", 1280, 800, "light")
    shoot(address, DOCS / "demo_phone.png", 390, 844, "dark")
    page.close()


if __name__ == "__main__":
    main()
