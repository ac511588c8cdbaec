"""One demo for all tests of its page."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from demo_models import write_tiny


@dataclass(frozen=True)
class Demo:
    """Where the page is, and the models that it offers: one with a full-precision twin, and one
    without."""

    address: str
    tiny: Path
    alone: Path


@pytest.fixture(scope="session")
def demo(tmp_path_factory) -> Iterator[Demo]:
    """The page on a port of this machine."""
    pytest.importorskip("gradio")
    from binseg.demo import build
    from binseg.demo.serve import launch

    folder = tmp_path_factory.mktemp("models")
    models = write_tiny(folder), write_tiny(folder, name="alone", twin=False, seed=2)
    page = build(models)
    yield Demo(launch(page), *models)
    page.close()
