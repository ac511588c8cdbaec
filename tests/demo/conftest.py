"""One demo and one browser for all tests of pages."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from chromium import find_chromium
from demo_models import write_tiny


@dataclass(frozen=True)
class Demo:
    """Where the page is, and the models of drawn scenes that it offers: one with a full-precision
    twin and one without."""

    address: str
    tiny: Path
    alone: Path


@pytest.fixture(scope="session")
def demo(tmp_path_factory) -> Iterator[Demo]:
    """The page on a port of this machine."""
    folder = tmp_path_factory.mktemp("models")
    models = write_tiny(folder), write_tiny(folder, name="alone", twin=False, seed=2)
    with _launched(models) as address:
        yield Demo(address, *models)


@pytest.fixture(scope="module")
def demo_of_both(tmp_path_factory) -> Iterator[str]:
    """The address of a page that offers also a model called "photos", of other classes."""
    folder = tmp_path_factory.mktemp("models")
    other = write_tiny(folder, name="photos", twin=False, seed=3, table="camvid")
    with _launched([other, write_tiny(folder), write_tiny(folder, name="alone", twin=False)]) as it:
        yield it


@contextmanager
def _launched(models: Sequence[Path]) -> Iterator[str]:
    pytest.importorskip("gradio")
    from binseg.demo import build
    from binseg.demo.serve import launch

    page = build(models)
    yield launch(page)
    page.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    """Chromium, with a camera that shows a test picture."""
    playwright = pytest.importorskip("playwright.sync_api")
    executable = find_chromium()
    if executable is None:
        pytest.skip("no Chromium here; `python tests/demo/chromium.py` installs it")
    camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable, args=["--no-sandbox", *camera])
        yield browser
        browser.close()
